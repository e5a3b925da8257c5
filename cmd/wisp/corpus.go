package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// title is a line of a catalogue of films.
type title struct {
	id, text string // the text with the year, as the catalogue has it
	genres   []string
}

// withGenres is the title as data.ItemText would render it.
func (t title) withGenres() string {
	if len(t.genres) == 0 {
		return t.text
	}
	return t.text + ". " + strings.Join(t.genres, ", ") + "."
}

// readTitles reads a catalogue of films: lines of id, title and genres with |
// between them, parted by :: as in MovieLens and MovieTweetings, or by semicolons
// under a line of names.
func readTitles(path string) ([]title, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--titles: %w; check the path", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	b := bufio.NewReader(f)
	first, err := b.Peek(256)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("--titles: %w", err)
	}
	line, _, _ := strings.Cut(string(first), "\n")
	var titles []title
	add := func(id, text, genres string) {
		if text = strings.TrimSpace(text); text != "" {
			titles = append(titles, title{id, text, strings.FieldsFunc(genres, func(r rune) bool { return r == '|' })})
		}
	}
	if strings.Contains(line, "::") {
		s := bufio.NewScanner(b)
		for s.Scan() {
			if parts := strings.SplitN(s.Text(), "::", 3); len(parts) == 3 {
				add(parts[0], parts[1], parts[2])
			}
		}
		err = s.Err()
	} else {
		r := csv.NewReader(b)
		r.Comma, r.LazyQuotes, r.FieldsPerRecord = ';', true, -1
		var rows [][]string
		rows, err = r.ReadAll()
		for _, row := range rows[min(1, len(rows)):] {
			if len(row) >= 3 {
				add(row[0], row[1], row[2])
			}
		}
	}
	if err == nil && len(titles) == 0 {
		err = fmt.Errorf("no line has an id, a title and genres parted by :: or by semicolons")
	}
	if err != nil {
		return nil, fmt.Errorf("--titles %s: %w", path, err)
	}
	return titles, nil
}

var yearBehind = regexp.MustCompile(`\s*\(\d{4}\)$`)

// bare is a title without its year.
func bare(text string) string { return yearBehind.ReplaceAllString(text, "") }

// titleKey is what is left of a title by which it is told from others: its
// letters and digits without the year.
func titleKey(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, bare(text))
}

// Titles that are held out of a distillation: those of the test, which results
// asks for, and those that training is validated on.
const (
	heldSeed  = 2006
	testHeld  = 2000
	validHeld = 1000
)

// holdOut draws the titles that are held out, at most half of the titles there
// are.
func holdOut(titles []title) (test, valid []title) {
	order := rand.New(rand.NewPCG(heldSeed, 0)).Perm(len(titles))
	most := len(titles) / 2
	nTest := min(testHeld, most*testHeld/(testHeld+validHeld))
	nValid := min(validHeld, most-nTest)
	for i, at := range order[:nTest+nValid] {
		if i < nTest {
			test = append(test, titles[at])
		} else {
			valid = append(valid, titles[at])
		}
	}
	return test, valid
}

// texts returns the titles as they stand.
func texts(titles []title) []string {
	all := make([]string, len(titles))
	for i, t := range titles {
		all[i] = t.text
	}
	return all
}

// wordNet reads the definitions and the lemmas of WordNet's data files.
func wordNet(dir string) (glosses, lemmas []string, err error) {
	seen := map[string]bool{}
	for _, part := range []string{"noun", "verb", "adj", "adv"} {
		path := filepath.Join(dir, "data."+part)
		f, err := os.Open(path)
		if err != nil {
			return nil, nil, fmt.Errorf("--wordnet: %w; install wordnet-base or name the folder with data.noun", err)
		}
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			// offset, file, part of speech, number of words in hexadecimal, then word
			// and sense of each; lines of the licence start with a blank.
			facts, gloss, ok := strings.Cut(s.Text(), " | ")
			fields := strings.Fields(facts)
			var words int
			if !ok || strings.HasPrefix(facts, " ") || len(fields) < 6 {
				continue
			}
			if _, err := fmt.Sscanf(fields[3], "%x", &words); err != nil {
				continue
			}
			definition, _, _ := strings.Cut(gloss, `; "`)
			glosses = append(glosses, strings.TrimSpace(definition))
			for i := range words {
				if at := 4 + 2*i; at < len(fields) {
					lemma, _, _ := strings.Cut(strings.ReplaceAll(fields[at], "_", " "), "(")
					if !seen[lemma] {
						seen[lemma] = true
						lemmas = append(lemmas, lemma)
					}
				}
			}
		}
		if err := s.Err(); err != nil {
			return nil, nil, fmt.Errorf("--wordnet: %s: %w", path, err)
		}
		if err := f.Close(); err != nil {
			return nil, nil, fmt.Errorf("--wordnet: %w", err)
		}
	}
	return glosses, lemmas, nil
}

// recombined makes n texts that look like titles: the start of one and the end of
// another, or one with a word replaced by a lemma, half of them with a year and
// some with genres. The teacher says what to make of them.
func recombined(titles []title, lemmas []string, n int, rng *rand.Rand) []title {
	if len(titles) == 0 {
		return nil
	}
	all := make([]title, 0, n)
	pick := func() title { return titles[rng.IntN(len(titles))] }
	for range n {
		from, other := pick(), pick()
		words := strings.Fields(bare(from.text))
		switch {
		case len(words) == 0:
			continue
		case rng.IntN(2) == 0 && len(lemmas) > 0:
			lemma := lemmas[rng.IntN(len(lemmas))]
			words[rng.IntN(len(words))] = strings.ToUpper(lemma[:1]) + lemma[1:]
		default:
			end := strings.Fields(bare(other.text))
			words = slices.Concat(words[:rng.IntN(len(words))+1], end[rng.IntN(len(end)+1):])
		}
		made := title{text: strings.Join(words, " ")}
		if rng.IntN(4) > 0 {
			made.text += yearBehind.FindString(other.text)
		}
		if rng.IntN(3) == 0 {
			made.genres = other.genres
		}
		all = append(all, made)
	}
	return all
}

// corpus gathers the texts of a distillation, each once and none that is held out.
type corpus struct {
	held map[string]bool // keys of titles
	seen map[string]bool
	all  []string
}

func newCorpus(held ...title) *corpus {
	c := &corpus{held: map[string]bool{}, seen: map[string]bool{}}
	for _, t := range held {
		c.held[titleKey(t.text)] = true
	}
	return c
}

// keeps says whether a title may be learnt from.
func (c *corpus) keeps(text string) bool { return !c.held[titleKey(text)] }

// add takes texts in.
func (c *corpus) add(texts ...string) {
	for _, text := range texts {
		c.addTitles(title{text: strings.TrimSpace(text)})
	}
}

// addTitles takes titles in, with their genres.
func (c *corpus) addTitles(titles ...title) {
	for _, t := range titles {
		if text := t.withGenres(); text != "" && !c.seen[text] && c.keeps(t.text) {
			c.seen[text] = true
			c.all = append(c.all, text)
		}
	}
}
