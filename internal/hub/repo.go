package hub

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Repo names a repository of a hub at a revision.
type Repo struct {
	Org, Name string
	Revision  string // a branch, a tag or a commit; empty means "main"
}

var (
	repoPart = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}$`)
	revision = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,254}$`)
	commitID = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
)

// ParseRepo reads ORG/NAME or ORG/NAME@REVISION. Errors wrap ErrOptions.
func ParseRepo(s string) (Repo, error) {
	name, rev, stated := strings.Cut(s, "@")
	org, name, ok := strings.Cut(name, "/")
	r := Repo{Org: org, Name: name, Revision: rev}
	if !ok || stated && rev == "" {
		return Repo{}, fmt.Errorf("%w: repository %q is not of the form ORG/NAME or ORG/NAME@REVISION", ErrOptions, s)
	}
	if err := r.Validate(); err != nil {
		return Repo{}, err
	}
	return r, nil
}

// Validate reports names that cannot be those of a repository. Errors wrap
// ErrOptions.
func (r Repo) Validate() error {
	for _, part := range []string{r.Org, r.Name} {
		if !repoPart.MatchString(part) || strings.Contains(part, "..") {
			return fmt.Errorf("%w: repository %q: organisation and name consist of letters, digits, '.', '_' and '-'", ErrOptions, r.Org+"/"+r.Name)
		}
	}
	if rev := r.revision(); !revision.MatchString(rev) || strings.Contains(rev, "..") {
		return fmt.Errorf("%w: revision %q is not a branch, a tag or a commit", ErrOptions, r.Revision)
	}
	return nil
}

// String returns ORG/NAME@REVISION.
func (r Repo) String() string { return r.path() + "@" + r.revision() }

func (r Repo) path() string { return r.Org + "/" + r.Name }

func (r Repo) revision() string {
	if r.Revision == "" {
		return "main"
	}
	return r.Revision
}

// url is the address of a file of the repository below base.
func (r Repo) url(base *url.URL, file string) *url.URL {
	// A revision such as refs/pr/1 is one element of the path.
	elements := []string{r.Org, r.Name, "resolve", url.PathEscape(r.revision())}
	for e := range strings.SplitSeq(file, "/") {
		elements = append(elements, url.PathEscape(e))
	}
	return base.JoinPath(elements...)
}
