package tokenize

import "slices"

// trie finds the longest token that a text starts with. The children of node n
// are the nodes first[n] to first[n+1]-1, sorted by label; node 0 is the root.
type trie struct {
	first []int32 // one a node and one more
	label []byte  // the byte that leads to the node
	id    []int32 // token that ends at the node, or -1
}

// newTrie returns a trie of the non-empty tokens, whose ids are their indices.
// The tokens must differ.
func newTrie(tokens []string) *trie {
	order := make([]int32, len(tokens))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch x, y := tokens[a], tokens[b]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	// Breadth first: a node is a range of the sorted tokens with a common prefix.
	type span struct{ from, to, depth int32 }
	queue := []span{{0, int32(len(tokens)), 0}}
	t := &trie{label: []byte{0}}
	for n := 0; n < len(queue); n++ {
		s := queue[n]
		t.first = append(t.first, int32(len(queue)))
		t.id = append(t.id, -1)
		for s.from < s.to && len(tokens[order[s.from]]) == int(s.depth) {
			t.id[n] = order[s.from]
			s.from++
		}
		for s.from < s.to {
			c, end := tokens[order[s.from]][s.depth], s.from+1
			for end < s.to && tokens[order[end]][s.depth] == c {
				end++
			}
			queue = append(queue, span{s.from, end, s.depth + 1})
			t.label = append(t.label, c)
			s.from = end
		}
	}
	t.first = append(t.first, int32(len(queue)))
	return t
}

// tokens returns the number of tokens.
func (t *trie) tokens() int {
	n := 0
	for _, id := range t.id {
		if id >= 0 {
			n++
		}
	}
	return n
}

// child returns the child of node n by label c, or -1.
func (t *trie) child(n int32, c byte) int32 {
	lo, hi := t.first[n], t.first[n+1]
	for hi-lo > 4 {
		if mid := (lo + hi) / 2; t.label[mid] <= c {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if t.label[lo] == c {
			return lo
		}
	}
	return -1
}

// walk returns the node that s leads to from node n, or -1.
func (t *trie) walk(n int32, s string) int32 {
	for i := 0; i < len(s) && n >= 0; i++ {
		n = t.child(n, s[i])
	}
	return n
}

// longest returns the id and the length in bytes of the longest token that s
// starts with, walking from node n; the length is 0 where there is none.
func longest[S string | []byte](t *trie, n int32, s S) (id int32, size int) {
	for i := 0; i < len(s) && n >= 0; i++ {
		if n = t.child(n, s[i]); n >= 0 && t.id[n] >= 0 {
			id, size = t.id[n], i+1
		}
	}
	return id, size
}
