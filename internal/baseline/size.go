package baseline

// Bytes returns what the fitted scorer keeps to answer from, in bytes.
func (p *Popularity) Bytes() int64 { return 4 * int64(len(p.scores)) }

// Bytes returns what the fitted scorer keeps to answer from, in bytes.
func (m *ItemKNN) Bytes() int64 {
	n := 8 * int64(len(m.norm))
	for _, lists := range [][][]int32{m.itemsOf, m.usersOf} {
		for _, l := range lists {
			n += 4 * int64(len(l))
		}
	}
	return n
}

// Bytes returns what the fitted scorer keeps to answer from, in bytes.
func (m *EASE) Bytes() int64 { return 4 * int64(len(m.weights)) }

// Bytes returns what the fitted scorer keeps to answer from, in bytes.
func (m *Markov) Bytes() int64 { return 8*int64(len(m.start)) + 8*int64(len(m.next)) }

// Bytes returns what the fitted scorer keeps to answer from, in bytes.
func (m *Content) Bytes() int64 {
	var n int64
	items, _ := m.texts.Dims()
	for i := range items {
		columns, _ := m.texts.Row(i)
		n += 8 * int64(len(columns))
	}
	return n
}
