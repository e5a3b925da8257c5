package baseline

import "github.com/wisp-project/wisp/internal/data"

// MACs returns the multiply-accumulates of an answer to a history: a row of the
// matrix for each item of its profile.
func (m *EASE) MACs(history []data.Interaction) int64 {
	return int64(len(profile(history, m.recency))) * int64(m.items)
}

// MACs returns the multiply-accumulates of an answer to a history: the transitions
// from each item of its profile.
func (m *Markov) MACs(history []data.Interaction) int64 {
	var n int64
	for _, w := range profile(history, true) {
		n += int64(m.start[w.item+1] - m.start[w.item])
	}
	return n
}

// MACs returns the multiply-accumulates of an answer to a history, as which each
// pair of user and item counts that is visited, and the scaling of each item.
func (m *ItemKNN) MACs(history []data.Interaction) int64 {
	n := int64(len(m.norm))
	touched := make(map[int32]bool)
	for _, w := range profile(history, m.opts.Recency) {
		n += int64(len(m.usersOf[w.item]))
		for _, u := range m.usersOf[w.item] {
			if !touched[u] {
				touched[u] = true
				n += int64(len(m.itemsOf[u]))
			}
		}
	}
	return n
}
