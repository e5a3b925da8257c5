package data

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// Reasons for which cleaning drops sound rows, as they stand in reports.
const (
	reasonDuplicate = "exact duplicate"
	reasonConflict  = "conflicting rating at the same time"
	reasonBot       = "user faster than a person"
	reasonCore      = "outside the k-core"
	reasonNoEvents  = "user without events"
	reasonCold      = "item without events"
)

// Reasons that others look for in reports.
const (
	ReasonBot  = reasonBot  // events of users who are faster than a person
	ReasonCold = reasonCold // items without events, where they are left out
)

// botWindow is the time in seconds in which events are counted against bots.
const botWindow = 60

// cleaner cleans the events of whole users.
type cleaner struct {
	file                           string // of the events, for examples
	botPerMinute, ratingsPerMinute int    // below 0: off
	users                          []string
	rep                            *Report
}

// clean drops duplicates, conflicts and bots, in this order, and returns what
// is left of records, sorted by user, time and line.
func (c *cleaner) clean(records []record) []record {
	records = c.dropConflicts(c.dropDuplicates(records))
	slices.SortFunc(records, byUserAndTime)
	return c.dropBots(records)
}

func byUserAndTime(a, b record) int {
	return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.time, b.time), cmp.Compare(a.line, b.line))
}

// dropDuplicates keeps the last of the events that agree in everything but the
// line. It sorts records so that conflicts stand side by side.
func (c *cleaner) dropDuplicates(records []record) []record {
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.user, b.user), cmp.Compare(a.time, b.time), cmp.Compare(a.item, b.item),
			cmp.Compare(a.kind, b.kind), cmp.Compare(a.value, b.value), cmp.Compare(a.line, b.line))
	})
	return compact(records, func(r, next record) bool {
		same := r
		same.line = next.line
		if same != next {
			return false
		}
		c.rep.drop(reasonDuplicate, 1, fmt.Sprintf("%s: same as line %d", place(c.file, r.line), next.line))
		return true
	})
}

// dropConflicts keeps, of the ratings of one item by one user at one moment,
// the one that is last in the file. A rating at another moment is no conflict.
func (c *cleaner) dropConflicts(records []record) []record {
	rated := func(a, b record) bool {
		return a.kind == Rating && b.kind == Rating && a.user == b.user && a.item == b.item && a.time == b.time
	}
	// The last in the file goes to the end of its group, where compact keeps it.
	for i := 1; i < len(records); i++ {
		if rated(records[i-1], records[i]) && records[i-1].line > records[i].line {
			records[i-1], records[i] = records[i], records[i-1]
		}
	}
	return compact(records, func(r, next record) bool {
		if !rated(r, next) {
			return false
		}
		c.rep.drop(reasonConflict, 1, fmt.Sprintf("%s: rated %g, but %g at the same time in line %d", place(c.file, r.line), r.value, next.value, next.line))
		return true
	})
}

// compact removes, in place, every record for which drop says so, given the one
// after it.
func compact(records []record, drop func(r, next record) bool) []record {
	n := 0
	for i := range records {
		if i+1 < len(records) && drop(records[i], records[i+1]) {
			continue
		}
		records[n] = records[i]
		n++
	}
	return records[:n]
}

// dropBots removes users who did more within some minute than a person does.
// Ratings have a limit of their own: rating pages let people rate in bulk.
func (c *cleaner) dropBots(records []record) []record {
	n := 0
	for from := 0; from < len(records); {
		to := from
		for to < len(records) && records[to].user == records[from].user {
			to++
		}
		h := records[from:to]
		from = to
		done, rated := busiest(h, func(k Kind) bool { return k != Rating }), busiest(h, func(k Kind) bool { return k == Rating })
		if (c.botPerMinute >= 0 && done > c.botPerMinute) || (c.ratingsPerMinute >= 0 && rated > c.ratingsPerMinute) {
			c.rep.drop(reasonBot, int64(len(h)), fmt.Sprintf("%s: user %q has %d ratings and %d other events within %d s", place(c.file, h[0].line), short(c.users[h[0].user]), rated, done, botWindow))
			continue
		}
		n += copy(records[n:], h)
	}
	return records[:n]
}

// busiest returns the most events of some kinds within botWindow.
func busiest(h []record, counts func(Kind) bool) int {
	best, n, first := 0, 0, 0
	for _, r := range h {
		if !counts(r.kind) {
			continue
		}
		n++
		for ; h[first].time <= r.time-botWindow || !counts(h[first].kind); first++ {
			if counts(h[first].kind) {
				n--
			}
		}
		best = max(best, n)
	}
	return best
}

// core drops users and items with fewer than k events until none is left, and
// reports which remain, by interned index. It holds counts only: the records
// are read from the spill once a round.
func core(ctx context.Context, s *spill, k int, users, items []string, rep *Report, progress Progress) (keepUser, keepItem []bool, err error) {
	keepUser, keepItem = slices.Repeat([]bool{true}, len(users)), slices.Repeat([]bool{true}, len(items))
	if k <= 1 {
		return keepUser, keepItem, nil
	}
	before := int64(-1)
	for round := int64(1); ; round++ {
		userCount, itemCount, n := make([]int32, len(users)), make([]int32, len(items)), int64(0)
		for p := range s.counts {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			if err := s.scan(p, func(r *record) {
				if keepUser[r.user] && keepItem[r.item] {
					userCount[r.user]++
					itemCount[r.item]++
					n++
				}
			}); err != nil {
				return nil, nil, err
			}
		}
		progress.report("core", round, 0)
		if before < 0 {
			before = n
		}
		changed := prune(userCount, k, keepUser)
		if !prune(itemCount, k, keepItem) && !changed {
			rep.drop(reasonCore, before-n, fmt.Sprintf("%d rounds left %d users and %d items with at least %d events", round, count(keepUser), count(keepItem), k))
			return keepUser, keepItem, nil
		}
	}
}

// prune takes out what has fewer than k events and says whether anything had.
func prune(counts []int32, k int, keep []bool) (changed bool) {
	for i, n := range counts {
		if keep[i] && int(n) < k {
			keep[i] = false
			changed = changed || n > 0
		}
	}
	return changed
}

func count(keep []bool) (n int) {
	for _, k := range keep {
		if k {
			n++
		}
	}
	return n
}
