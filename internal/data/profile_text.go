package data

import (
	"fmt"
	"strings"
	"text/template"
)

// DefaultProfileText is the template of a user's profile: what is known of the
// user, then the titles of what was liked.
const DefaultProfileText = `{{.User}}{{if .Liked}}{{if .User}} {{end}}Recently liked: {{join .Liked "; "}}.{{end}}`

// ProfileView is what a template of a profile may use.
type ProfileView struct {
	User        string            // UserText: description and attributes as sentences
	Description string            // as it was given
	Attributes  map[string]string // as they were given
	Liked       []string          // titles of liked items, newest first, each once; see Likes
}

// ProfileText renders profiles, description and behaviour, as text for a language
// model. The most recent comes first, so that a text which is cut loses the
// oldest. It is safe for concurrent use.
type ProfileText struct {
	t     *template.Template
	liked int
}

// NewProfileText returns a renderer for a template of text/template over
// ProfileView, with the function join of package strings. liked is the number of
// titles that it is given at most; 0 means 10. The error wraps ErrOptions for
// what is no template, for one that uses what is not there, and for one that
// cannot render an empty profile.
func NewProfileText(text string, liked int) (*ProfileText, error) {
	if liked < 0 {
		return nil, fmt.Errorf("%w: profile template: %d liked titles, must not be negative", ErrOptions, liked)
	}
	if liked == 0 {
		liked = 10
	}
	t, err := template.New("profile").Funcs(template.FuncMap{"join": strings.Join}).Option("missingkey=zero").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: profile template: %w", ErrOptions, err)
	}
	p := &ProfileText{t: t, liked: liked}
	// Fields are looked up when a template is executed: a wrong name shows now.
	for _, v := range []ProfileView{
		{},
		{User: "x.", Description: "x", Attributes: map[string]string{"x": "x"}, Liked: []string{"x", "x"}},
	} {
		if _, err := p.execute(v); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Render returns the text of a user of ds with the given history, oldest first.
// The error wraps ErrOptions where the template cannot render this profile.
func (p *ProfileText) Render(ds *Dataset, user *User, history []Interaction) (string, error) {
	v := ProfileView{User: UserText(user), Description: user.Description, Attributes: user.Attributes}
	told := map[int32]bool{}
	for i := len(history) - 1; i >= 0 && len(v.Liked) < p.liked; i-- {
		e := history[i]
		if title := strings.TrimSpace(ds.Items[e.Item].Title); title != "" && !told[e.Item] && ds.Likes(e) {
			told[e.Item] = true
			v.Liked = append(v.Liked, title)
		}
	}
	text, err := p.execute(v)
	if err != nil {
		return "", fmt.Errorf("%w (user %q)", err, user.ID)
	}
	return text, nil
}

func (p *ProfileText) execute(v ProfileView) (string, error) {
	var b strings.Builder
	if err := p.t.Execute(&b, v); err != nil {
		return "", fmt.Errorf("%w: profile template: %w", ErrOptions, err)
	}
	return strings.TrimSpace(b.String()), nil
}

// Likes reports whether an event of d speaks for its item: a rating does in the
// upper two of the five levels of the scale, every other event always.
func (d *Dataset) Likes(e Interaction) bool {
	if d.Types[e.Type].Name != Rating.String() {
		return true
	}
	below := 0 // rating levels up to this one
	for _, t := range d.Types[:e.Type] {
		if t.Name == Rating.String() {
			below++
		}
	}
	return below >= RatingLevels-2
}
