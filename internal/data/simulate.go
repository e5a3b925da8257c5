package data

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// SimulateOptions describe a made data set. The same options always make the
// same data. Zero fields stand for the defaults given with them.
type SimulateOptions struct {
	Users      int    `json:"users"`      // default 1,000
	Items      int    `json:"items"`      // default 500; at least 4 a category
	Events     int    `json:"events"`     // default 20 a user; 3 to 10,000 a user on average
	Categories int    `json:"categories"` // default 10
	Seed       uint64 `json:"seed"`
	Scenario   string `json:"scenario"` // "shop" (the default), "video" or "music"

	// Follow is the probability that the next event is with a successor of the
	// last item: the planted cause. Default 0.35; below 0 is never.
	Follow float64 `json:"follow"`
	// Skew is the exponent of the Zipf law of popularity within a category.
	// Default 1; below 0 makes all items equally popular.
	Skew float64 `json:"skew"`
	// Drift is the probability, at each new session, that one of the
	// categories that a user likes gives way to another. Default 0.15; below 0
	// is never.
	Drift float64 `json:"drift"`
	// Cold is the share of items that are in no event before the last tenth of
	// the time. Default 0.05; below 0 is none.
	Cold float64 `json:"cold"`
	// Redraws is how often an item that the user has seen is drawn again before
	// it is taken all the same. Default 4; below 0 is never.
	Redraws int `json:"redraws"`
}

// The time that made data sets cover, in Unix seconds: 180 days from the
// beginning of 2023. Cold items may appear from SimulateLaunch on.
const (
	SimulateStart  = 1672531200
	SimulateEnd    = SimulateStart + 180*86400
	SimulateLaunch = SimulateEnd - 18*86400
)

// The constants of how users behave.
const (
	likedShare  = 0.85 // of the draws by taste; the rest fall on any category alike
	mainSucc    = 0.7  // of two successors the first has this share
	sessionMean = 8    // events
	gapMean     = 60   // seconds between events of a session
)

// Simulator makes a data set with a known truth: a catalogue, users with tastes
// that drift, and events in which items have planted successors. It is safe for
// concurrent use.
type Simulator struct {
	opts  SimulateOptions
	scene *scene
	items []Item
	shelf []shelf // by category
	// category and successors of each item; the second successor is -1 where
	// there is only one.
	category   []int32
	successors [][2]int32
	counts     []int // events before each user, and the sum at the end
}

// A shelf is the items of a category in order of popularity, the cold ones
// last. cumulative[i] is the weight of the items up to i.
type shelf struct {
	items      []int32
	cumulative []float64
	warm       int // the number of items that are not cold
}

// NewSimulator lays out the catalogue. Errors wrap ErrOptions.
func NewSimulator(opts SimulateOptions) (*Simulator, error) {
	opts.Users = cmp.Or(opts.Users, 1000)
	opts.Items = cmp.Or(opts.Items, 500)
	opts.Events = cmp.Or(opts.Events, 20*opts.Users)
	opts.Categories = cmp.Or(opts.Categories, 10)
	opts.Scenario = cmp.Or(opts.Scenario, "shop")
	opts.Follow = cmp.Or(opts.Follow, 0.35)
	opts.Skew = cmp.Or(opts.Skew, 1)
	opts.Drift = cmp.Or(opts.Drift, 0.15)
	opts.Cold = cmp.Or(opts.Cold, 0.05)
	opts.Redraws = cmp.Or(opts.Redraws, 4)
	scene, ok := scenes[opts.Scenario]
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: unknown scenario %q; use shop, video or music", ErrOptions, opts.Scenario)
	case opts.Users < 1 || opts.Users > 1<<30 || opts.Items > 1<<30:
		return nil, fmt.Errorf("%w: %d users and %d items; use at least 1 user, and at most 2^30 of either", ErrOptions, opts.Users, opts.Items)
	case opts.Categories < 2 || opts.Categories > opts.Items/4:
		return nil, fmt.Errorf("%w: %d categories for %d items; use at least 2 and 4 items for each", ErrOptions, opts.Categories, opts.Items)
	case opts.Events < 3*opts.Users || opts.Events/10000 > opts.Users:
		return nil, fmt.Errorf("%w: %d events for %d users; use 3 to 10000 for each", ErrOptions, opts.Events, opts.Users)
	case !(opts.Follow <= 1) || !(opts.Drift <= 1) || !(opts.Cold <= 0.5) || !(opts.Skew <= 4):
		return nil, fmt.Errorf("%w: follow %g, drift %g, cold %g, skew %g; the greatest are 1, 1, 0.5 and 4", ErrOptions, opts.Follow, opts.Drift, opts.Cold, opts.Skew)
	}
	s := &Simulator{opts: opts, scene: scene}
	rng := rand.New(rand.NewPCG(opts.Seed, math.MaxUint64))
	s.layOut(rng)
	s.plant(rng)
	s.describe(rng)
	s.share(rng)
	return s, nil
}

// OpenSimulator makes the simulator again that wrote the folder dir. Errors
// wrap ErrOptions.
func OpenSimulator(dir string) (*Simulator, error) {
	t, err := readTruth(dir)
	if err != nil {
		return nil, err
	}
	return NewSimulator(t.Options)
}

// Options returns the options with the defaults filled in.
func (s *Simulator) Options() SimulateOptions { return s.opts }

// Items returns the catalogue; dst of Scores has the same order. It belongs to
// s.
func (s *Simulator) Items() []Item { return s.items }

// layOut puts the items on the shelves.
func (s *Simulator) layOut(rng *rand.Rand) {
	n := s.opts.Items
	s.category = make([]int32, n)
	s.shelf = make([]shelf, s.opts.Categories)
	for i, item := range rng.Perm(n) {
		c := i % s.opts.Categories
		s.category[item] = int32(c)
		s.shelf[c].items = append(s.shelf[c].items, int32(item))
	}
	cold := max(0, int(s.opts.Cold*float64(n)))
	for c := range s.shelf {
		sh := &s.shelf[c]
		// The first shelves take one more where the cold items do not come out
		// even.
		own := cold / s.opts.Categories
		if c < cold%s.opts.Categories {
			own++
		}
		sh.warm = len(sh.items) - min(own, len(sh.items)/2)
		sum := 0.0
		for i := range sh.items {
			rank := float64(i + 1)
			if i >= sh.warm { // new, but not without interest
				rank = float64(1 + (i-sh.warm)%max(1, sh.warm))
			}
			sum += math.Pow(rank, -max(0, s.opts.Skew))
			sh.cumulative = append(sh.cumulative, sum)
		}
	}
}

// plant gives each item one or two warm successors, the first most often of
// the same category.
func (s *Simulator) plant(rng *rand.Rand) {
	draw := func(c int, not ...int32) int32 {
		sh := &s.shelf[c]
		// A shelf has at least two warm items and at most two are not wanted,
		// so that the next shelf has one at the latest.
		at := rng.IntN(sh.warm)
		for i := range sh.warm {
			if it := sh.items[(at+i)%sh.warm]; !slices.Contains(not, it) {
				return it
			}
		}
		return s.shelf[(c+1)%len(s.shelf)].items[0]
	}
	s.successors = make([][2]int32, s.opts.Items)
	for i := range s.successors {
		c := int(s.category[i])
		if rng.Float64() < 0.4 {
			c = rng.IntN(len(s.shelf))
		}
		first, second := draw(c, int32(i)), int32(-1)
		if rng.Float64() < 0.5 {
			second = draw(rng.IntN(len(s.shelf)), int32(i), first)
		}
		s.successors[i] = [2]int32{first, second}
	}
}

// share divides the events among the users: some do much more than others.
func (s *Simulator) share(rng *rand.Rand) {
	n := s.opts.Users
	weights, sum := make([]float64, n), 0.0
	for u := range weights {
		weights[u] = 0.25 + rng.ExpFloat64()
		sum += weights[u]
	}
	s.counts = make([]int, n+1)
	spare, upTo := float64(s.opts.Events-3*n), 0.0
	for u := range weights {
		upTo += weights[u]
		s.counts[u+1] = 3*(u+1) + int(spare*min(1, upTo/sum))
	}
	s.counts[n] = s.opts.Events
}

// person is the state of one user while the events are drawn.
type person struct {
	sim   *Simulator
	rng   *rand.Rand
	liked []int32 // categories, the most liked first
	times []int64
	begin []bool // begin[i]: event i begins a session
	seen  map[int32]bool
	last  int32 // item; -1 before the first event
}

// person starts user u anew.
func (s *Simulator) person(u int) *person {
	p := &person{sim: s, rng: rand.New(rand.NewPCG(s.opts.Seed, uint64(u))), last: -1}
	for _, c := range p.rng.Perm(s.opts.Categories)[:min(2+p.rng.IntN(3), s.opts.Categories)] {
		p.liked = append(p.liked, int32(c))
	}
	return p
}

// schedule draws the times of all n events, in sessions.
func (p *person) schedule(n int) {
	p.seen = make(map[int32]bool, n)
	p.times, p.begin = make([]int64, n), make([]bool, n)
	busy, breaks := int64(0), 0.0
	pauses := make([]float64, n) // before the event; only at the start of sessions
	for i := range n {
		if i == 0 || p.rng.Float64() < 1.0/sessionMean {
			p.begin[i] = true
			pauses[i] = p.rng.ExpFloat64()
			breaks += pauses[i]
		} else {
			p.times[i] = 1 + int64(p.rng.ExpFloat64()*gapMean)
		}
		busy += max(p.times[i], 1)
	}
	breaks += p.rng.ExpFloat64() // after the last event
	free := float64(max(0, SimulateEnd-SimulateStart-busy-1))
	now, spent := int64(SimulateStart), 0.0
	for i := range n {
		if p.begin[i] {
			before := int64(free * spent / breaks)
			spent += pauses[i]
			p.times[i] = 1 + int64(free*spent/breaks) - before
		}
		now += p.times[i]
		p.times[i] = now
	}
}

// likedWeight is the share of the liked category at a position: each has twice
// that of the one after it.
func likedWeight(n, at int) float64 {
	return math.Ldexp(1, n-1-at) / (math.Ldexp(1, n) - 1)
}

// drift puts a new category before the liked ones; the least liked goes.
func (p *person) drift() {
	if p.rng.Float64() < p.sim.opts.Drift && len(p.liked) < p.sim.opts.Categories {
		c := int32(p.rng.IntN(p.sim.opts.Categories))
		for slices.Contains(p.liked, c) {
			c = (c + 1) % int32(p.sim.opts.Categories)
		}
		copy(p.liked[1:], p.liked[:len(p.liked)-1])
		p.liked[0] = c
	}
}

// draw returns an item for an event at the given time, in O(log items).
func (p *person) draw(at int64) int32 {
	s := p.sim
	if p.last >= 0 && p.rng.Float64() < s.opts.Follow {
		next := s.successors[p.last]
		if next[1] >= 0 && p.rng.Float64() >= mainSucc {
			return next[1]
		}
		return next[0]
	}
	c := -1
	if x := p.rng.Float64(); x < likedShare {
		x /= likedShare
		for i, liked := range p.liked {
			c = int(liked)
			if x -= likedWeight(len(p.liked), i); x < 0 {
				break
			}
		}
	} else {
		c = p.rng.IntN(len(s.shelf))
	}
	sh := &s.shelf[c]
	open := sh.open(at)
	x := p.rng.Float64() * sh.cumulative[open-1]
	return sh.items[min(sort.Search(open, func(i int) bool { return sh.cumulative[i] > x }), open-1)]
}

// open returns how many items of the shelf there are at the given time.
func (sh *shelf) open(at int64) int {
	if at < SimulateLaunch {
		return sh.warm
	}
	return len(sh.items)
}

// next draws event i. The schedule must have been drawn.
func (p *person) next(i int) (item int32, k Kind, value float32) {
	if p.begin[i] && i > 0 {
		p.drift()
	}
	item = p.draw(p.times[i])
	for range max(0, p.sim.opts.Redraws) {
		if !p.seen[item] {
			break
		}
		item = p.draw(p.times[i])
	}
	p.seen[item], p.last = true, item
	liking := p.liking(item)
	x := p.rng.Float64()
	k = Browse
	for k < Rating && x >= p.sim.scene.kinds[k] {
		x -= p.sim.scene.kinds[k]
		k++
	}
	switch {
	case k == Rating:
		level := math.Round(2.2 + 2.3*liking + 0.8*p.rng.NormFloat64())
		value = float32(min(max(level, 1), 5))
	case k == Browse && p.rng.Float64() < 0.15*liking: // what is liked is kept more often
		k = Favourite
	}
	return item, k, value
}

// liking is how much the user likes an item's category, from 0 to 1.
func (p *person) liking(item int32) float64 {
	at := slices.Index(p.liked, p.sim.category[item])
	if at < 0 {
		return 0
	}
	return 1 - float64(at)/float64(len(p.liked)+1)
}

// Events draws the events user by user, each in order of time, which strictly
// increases. Only one user is in memory at a time. Every call starts anew and
// gives the same events.
func (s *Simulator) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		for u := range s.opts.Users {
			p := s.person(u)
			p.schedule(s.counts[u+1] - s.counts[u])
			id := userID(u)
			for i, at := range p.times {
				item, k, value := p.next(i)
				if !yield(Event{User: id, Item: s.items[item].ID, Kind: k, Value: value, Time: at}) {
					return
				}
			}
		}
	}
}

func userID(u int) string { return fmt.Sprintf("u%06d", u+1) }

// Scores writes to dst, which has the length of Items, the exact probability of
// each item to be in the first event of a user later than after, given all that
// the user did until then, before seen items are drawn again. After the user's
// last event it is that of one more event in the same session. Errors wrap
// ErrUnknownUser and ErrOptions.
func (s *Simulator) Scores(dst []float32, user string, after int64) error {
	digits, ok := strings.CutPrefix(user, "u")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > s.opts.Users || userID(n-1) != user {
		return fmt.Errorf("%w: %q; users are %s to %s", ErrUnknownUser, user, userID(0), userID(s.opts.Users-1))
	}
	if len(dst) != len(s.items) {
		return fmt.Errorf("%w: %d scores for %d items", ErrOptions, len(dst), len(s.items))
	}
	p := s.person(n - 1)
	p.schedule(s.counts[n] - s.counts[n-1])
	i := 0
	for ; i < len(p.times) && p.times[i] <= after; i++ {
		p.next(i)
	}
	at := after
	if i < len(p.times) {
		at = p.times[i]
		if p.begin[i] && i > 0 {
			return s.scoresAfterDrift(dst, p, at)
		}
	}
	clear(dst)
	s.addScores(dst, p.last, p.liked, at, 1)
	return nil
}

// scoresAfterDrift sums over the tastes that a user may have in a new session.
func (s *Simulator) scoresAfterDrift(dst []float32, p *person, at int64) error {
	clear(dst)
	free := s.opts.Categories - len(p.liked)
	drift := max(0, s.opts.Drift)
	if free == 0 {
		drift = 0
	}
	s.addScores(dst, p.last, p.liked, at, 1-drift)
	if drift == 0 {
		return nil
	}
	for c := range s.opts.Categories {
		// Of the draws, those of a liked category go to the next free one.
		landed := int32(c)
		for slices.Contains(p.liked, landed) {
			landed = (landed + 1) % int32(s.opts.Categories)
		}
		taste := append([]int32{landed}, p.liked[:len(p.liked)-1]...)
		s.addScores(dst, p.last, taste, at, drift/float64(s.opts.Categories))
	}
	return nil
}

// addScores adds weight times the probabilities of the next item.
func (s *Simulator) addScores(dst []float32, last int32, liked []int32, at int64, weight float64) {
	if last >= 0 {
		follow := max(0, s.opts.Follow) * weight
		weight -= follow
		next := s.successors[last]
		if next[1] >= 0 {
			dst[next[1]] += float32(follow * (1 - mainSucc))
			follow *= mainSucc
		}
		dst[next[0]] += float32(follow)
	}
	for c := range s.shelf {
		sh := &s.shelf[c]
		share := (1 - likedShare) / float64(len(s.shelf))
		if i := slices.Index(liked, int32(c)); i >= 0 {
			share += likedShare * likedWeight(len(liked), i)
		}
		open, before := sh.open(at), 0.0
		for i := range open {
			dst[sh.items[i]] += float32(weight * share * (sh.cumulative[i] - before) / sh.cumulative[open-1])
			before = sh.cumulative[i]
		}
	}
}

// truth is what truth.json holds: everything needed to make the data again.
type truth struct {
	Format  string          `json:"format"`
	Options SimulateOptions `json:"options"`
	Start   int64           `json:"start"`
	Launch  int64           `json:"launch"`
	End     int64           `json:"end"`
}

const truthFormat = "wisp simulated data 1"

func readTruth(dir string) (truth, error) {
	var t truth
	path := filepath.Join(dir, "truth.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return t, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if err := json.Unmarshal(b, &t); err != nil || t.Format != truthFormat {
		return t, fmt.Errorf("%w: %s was not written by this simulator (%w)", ErrOptions, path, cmp.Or(err, errFormat))
	}
	return t, nil
}

var errFormat = fmt.Errorf("format is not %q", truthFormat)

// WriteTo writes the data set to the folder dir: events.jsonl, items.jsonl,
// users.jsonl and truth.json. The folder appears whole or not at all; one that
// holds something else than a simulated data set is refused with ErrExists.
// Progress may be nil.
func (s *Simulator) WriteTo(ctx context.Context, dir string, progress Progress) error {
	ours := func(dir string) bool {
		_, err := readTruth(dir)
		return err == nil
	}
	return replaceDir(dir, ours, []string{"items.jsonl", "users.jsonl", "events.jsonl", "truth.json"}, func(dir string) error {
		if err := writeLines(filepath.Join(dir, "items.jsonl"), slices.Values(s.items), func(it Item) any { return jsonItem(it) }); err != nil {
			return err
		}
		if err := writeLines(filepath.Join(dir, "users.jsonl"), s.users(), func(u User) any { return jsonUser(u) }); err != nil {
			return err
		}
		if err := s.writeEvents(ctx, filepath.Join(dir, "events.jsonl"), progress); err != nil {
			return err
		}
		return writeJSON(filepath.Join(dir, "truth.json"), truth{truthFormat, s.opts, SimulateStart, SimulateLaunch, SimulateEnd})
	})
}

func writeLines[T any](path string, all iter.Seq[T], convert func(T) any) error {
	return writeFile(path, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<16)
		e := json.NewEncoder(out)
		for v := range all {
			if err := e.Encode(convert(v)); err != nil {
				return err
			}
		}
		return out.Flush()
	})
}

// writeEvents appends lines by hand: ids and kinds need no escapes.
func (s *Simulator) writeEvents(ctx context.Context, path string, progress Progress) error {
	return writeFile(path, func(w io.Writer) error {
		out := bufio.NewWriterSize(w, 1<<16)
		n, line := int64(0), []byte(nil)
		for e := range s.Events() {
			line = append(line[:0], `{"user":"`...)
			line = append(line, e.User...)
			line = append(line, `","item":"`...)
			line = append(line, e.Item...)
			line = append(line, `","kind":"`...)
			line = append(line, e.Kind.String()...)
			if e.Kind == Rating {
				line = append(line, `","value":`...)
				line = strconv.AppendFloat(line, float64(e.Value), 'g', -1, 32)
				line = append(line, `,"time":`...)
			} else {
				line = append(line, `","time":`...)
			}
			line = strconv.AppendInt(line, e.Time, 10)
			line = append(line, "}\n"...)
			if _, err := out.Write(line); err != nil {
				return err
			}
			if n++; n%4096 == 0 {
				if err := ctx.Err(); err != nil {
					return err
				}
				progress.report("simulate", n, int64(s.opts.Events))
			}
		}
		return cmp.Or(ctx.Err(), out.Flush())
	})
}
