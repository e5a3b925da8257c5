package data

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// A scene is the words and habits of a simulated business.
type scene struct {
	kinds    [4]float64 // share of each Kind
	words    []theme    // one for each category; reused with a number where short
	adjs     []string
	title    string // with %[1]s the adjective, %[2]s the noun, %[3]s the maker
	text     string // the same, and %[4]s and %[5]s two words of the theme
	maker    string // name of the attribute
	makers   []string
	interest string // of users, with the themes
}

// A theme is a category: its name, what its items are, words of their texts.
type theme struct {
	name  string
	nouns []string
	words []string
}

func words(s string) []string { return strings.Fields(s) }

var scenes = map[string]*scene{
	"shop": {
		kinds: [4]float64{0.50, 0.30, 0.07, 0.13},
		words: []theme{
			{"kitchen", words("pan kettle knife board mixer"), words("cooking baking steel handle oven")},
			{"garden", words("spade hose planter rake lantern"), words("soil plants outdoor seeds weatherproof")},
			{"office", words("desk lamp notebook stapler chair"), words("paper writing work tidy ergonomic")},
			{"sport", words("ball racket mat dumbbell bottle"), words("training running grip team light")},
			{"toys", words("puzzle train kite robot blocks"), words("children play colourful wooden learning")},
			{"clothing", words("jacket scarf shirt boots hat"), words("cotton wool warm fit washable")},
			{"audio", words("headphones speaker radio microphone amplifier"), words("sound wireless bass battery clear")},
			{"beauty", words("cream soap brush perfume balm"), words("skin gentle scent natural care")},
			{"tools", words("drill hammer saw spanner torch"), words("repair metal cordless sturdy workshop")},
			{"pets", words("lead basket bowl collar blanket"), words("dog cat soft chewing walk")},
		},
		adjs:     words("compact classic folding bright sturdy quiet modern small large simple"),
		title:    "%[3]s %[1]s %[2]s",
		text:     "A %[1]s %[2]s made by %[3]s, for %[4]s and %[5]s.",
		maker:    "brand",
		makers:   words("Alder Birch Cedar Elm Hazel Maple Rowan Willow"),
		interest: "Mostly buys for %s.",
	},
	"video": {
		kinds: [4]float64{0.35, 0.35, 0.08, 0.22},
		words: []theme{
			{"drama", words("letter house promise winter daughter"), words("family loss secret quiet town")},
			{"comedy", words("wedding neighbour holiday mistake dinner"), words("funny chaos friends awkward charm")},
			{"crime", words("witness alibi harbour verdict silence"), words("detective murder case evidence night")},
			{"science", words("orbit signal colony machine horizon"), words("space future robot discovery planet")},
			{"nature", words("forest river migration reef mountain"), words("animals wild season survival camera")},
			{"history", words("empire voyage siege crown treaty"), words("war king century archive people")},
			{"adventure", words("island treasure expedition desert map"), words("journey danger escape hero jungle")},
			{"cookery", words("kitchen market feast table harvest"), words("recipe chef taste local season")},
			{"travel", words("road coast island station valley"), words("city train culture guide landscape")},
			{"sport", words("final comeback rival season record"), words("team coach training victory match")},
		},
		adjs:     words("last hidden silent long broken golden distant second cold open"),
		title:    "The %[1]s %[2]s",
		text:     "%[3]s presents a story of %[4]s and %[5]s: the %[1]s %[2]s.",
		maker:    "studio",
		makers:   words("Northlight Bluegate Ironbridge Halfmoon Redkite Stonecrop"),
		interest: "Mostly watches %s.",
	},
	"music": {
		kinds: [4]float64{0.12, 0.68, 0.14, 0.06},
		words: []theme{
			{"rock", words("thunder highway fire stone engine"), words("guitar loud drums riff stadium")},
			{"jazz", words("midnight corner smoke blue standard"), words("saxophone swing trio improvised brushes")},
			{"folk", words("river harvest lantern hill shepherd"), words("fiddle acoustic ballad voice traditional")},
			{"classical", words("prelude nocturne sonata suite waltz"), words("piano strings orchestra slow movement")},
			{"electronic", words("signal circuit pulse neon grid"), words("synthesiser beat dance loop bass")},
			{"hip-hop", words("block crown hustle story mirror"), words("rap rhyme sample flow beat")},
			{"soul", words("heart promise honey letter sunday"), words("gospel voice brass warm groove")},
			{"country", words("truck porch dust train whiskey"), words("steel-guitar road home twang story")},
			{"ambient", words("mist tide drift snow dawn"), words("calm texture drone sleep space")},
			{"reggae", words("island sun roots harbour lion"), words("offbeat dub bass sunshine rhythm")},
		},
		adjs:     words("lonely golden wild gentle restless northern electric faded early endless"),
		title:    "%[1]s %[2]s",
		text:     "%[1]s %[2]s by %[3]s, with %[4]s and %[5]s.",
		maker:    "artist",
		makers:   []string{"The Larks", "Ada Finch", "Grey Heron", "Swift and Sons", "Wren Hall", "The Plovers", "Kestrel"},
		interest: "Mostly listens to %s.",
	},
}

// categoryName returns the name of category c; names have numbers where there
// are more categories than themes.
func (s *Simulator) categoryName(c int) string {
	themes := s.scene.words
	name := themes[c%len(themes)].name
	if c >= len(themes) {
		name = fmt.Sprintf("%s %d", name, c/len(themes)+1)
	}
	return name
}

// describe writes the catalogue.
func (s *Simulator) describe(rng *rand.Rand) {
	pick := func(list []string) string { return list[rng.IntN(len(list))] }
	s.items = make([]Item, s.opts.Items)
	for i := range s.items {
		c := int(s.category[i])
		t := s.scene.words[c%len(s.scene.words)]
		maker := pick(s.scene.makers)
		w := rng.IntN(len(t.words)) // and another word than this
		other := (w + 1 + rng.IntN(len(t.words)-1)) % len(t.words)
		args := []any{pick(s.scene.adjs), pick(t.nouns), maker, t.words[w], t.words[other]}
		it := Item{
			ID:         fmt.Sprintf("i%05d", i+1),
			Title:      capital(fmt.Sprintf(s.scene.title+"%.0[4]s%.0[5]s", args...)),
			Text:       capital(fmt.Sprintf(s.scene.text, args...)),
			Categories: []string{s.categoryName(c)},
			Attributes: map[string]string{s.scene.maker: maker},
		}
		// A second category says a little and decides nothing.
		if other := rng.IntN(s.opts.Categories); rng.Float64() < 0.2 && other != c {
			it.Categories = append(it.Categories, s.categoryName(other))
		}
		s.items[i] = it
	}
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// Users returns the users with the tastes that they start with.
func (s *Simulator) Users() []User { return slices.Collect(s.users()) }

func (s *Simulator) users() iter.Seq[User] {
	return func(yield func(User) bool) {
		for u := range s.opts.Users {
			var likes []string
			for _, c := range s.person(u).liked {
				likes = append(likes, s.categoryName(int(c)))
			}
			last := len(likes) - 1
			list := strings.Join(likes[:last], ", ") + " and " + likes[last]
			if !yield(User{
				ID:          userID(u),
				Description: fmt.Sprintf(s.scene.interest, list),
				Attributes:  map[string]string{"region": []string{"north", "east", "south", "west"}[u%4]},
			}) {
				return
			}
		}
	}
}
