package tokenize

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf8"
)

// The packed form of a tokenizer is what wasm/guest/wordpiece.h reads where it
// lies: little-endian, 16-byte aligned arrays, named by their offsets from its
// start. A header of 32-bit words comes first; the constants name the words.
const (
	wordMagic = iota
	wordVersion
	wordBytes // of all of it
	wordHangul
	wordMaxWord
	wordUnknown
	wordClass
	wordSeparator
	wordPad
	wordMask
	wordContinuing
	wordPrefixBytes
	wordEntries // numbers of elements of the tables
	wordRecords
	wordRunes
	wordPrefix // offsets of arrays; those of the tables in the order of Tables
	wordTables
	wordPieces = wordTables + 7         // the words of a trie: see packTrie
	wordAdded  = wordPieces + trieWords // the same for the added tokens
	packWords  = 40
)

// The words of a trie.
const (
	trieNodes  = iota
	trieTokens // nodes at which a token ends
	trieBlocks // offsets of arrays
	trieKids
	trieLabels
	trieEnds
	trieIDs
	trieWords
)

const (
	packMagic   = 0x4B505457 // "WTPK"
	packVersion = 1

	// trieBlock is the number of nodes that share an entry of the blocks.
	trieBlock = 64

	// The guest keeps a word in fixed buffers and reads an added token in one step.
	maxPackedWord  = 100
	maxPackedToken = 512
	maxPackedSize  = 1 << 24

	// maxUnpacked bounds the text of a vocabulary, whose tries can be far smaller.
	maxUnpacked = 1 << 26
)

// Pack returns the packed form of a tokenizer, which must be kept at an address
// divisible by 16. It holds the whole vocabulary but, of the Unicode tables, only
// what can make a difference to a text's ids. Errors wrap ErrUnsupported: words
// of more than 100 characters, tokens of more than 512 bytes.
func Pack(t *Tokenizer) ([]byte, error) {
	if t.maxWord > maxPackedWord {
		return nil, fmt.Errorf("%w: packing words of up to %d characters; the guest reads at most %d", ErrUnsupported, t.maxWord, maxPackedWord)
	}
	if len(t.vocab) > maxPackedSize {
		return nil, fmt.Errorf("%w: packing %d tokens; the guest knows at most %d", ErrUnsupported, len(t.vocab), maxPackedSize)
	}
	for i, token := range t.vocab {
		if len(token) > maxPackedToken {
			return nil, fmt.Errorf("%w: packing token %d, which has %d bytes; the guest reads at most %d", ErrUnsupported, i, len(token), maxPackedToken)
		}
	}
	tables, err := t.reduced()
	if err != nil {
		return nil, err
	}
	p := &packer{b: make([]byte, 4*packWords)}
	p.set(wordMagic, packMagic)
	p.set(wordVersion, packVersion)
	if t.strip {
		p.set(wordHangul, 1)
	}
	p.set(wordMaxWord, uint32(t.maxWord))
	for i, id := range t.special.list() {
		p.set(wordUnknown+i, uint32(*id))
	}
	p.set(wordContinuing, uint32(t.continuing))
	p.set(wordPrefixBytes, uint32(len(t.prefix)))
	p.set(wordEntries, uint32(len(tables.Entry)))
	p.set(wordRecords, uint32(len(tables.Class)))
	p.set(wordRunes, uint32(len(tables.Runes)))
	p.array(wordPrefix, []byte(t.prefix))
	p.array(wordTables, tables.Page)
	p.array(wordTables+1, tables.Entry)
	p.array(wordTables+2, tables.Class)
	p.array(wordTables+3, tables.Combining)
	p.array(wordTables+4, tables.Decomposed)
	p.array(wordTables+5, tables.Lower)
	p.array(wordTables+6, tables.Runes)
	p.trie(wordPieces, t.pieces, func(id int32) int32 { return id })
	p.trie(wordAdded, t.added, func(n int32) int32 { return t.addedIDs[n] })
	p.set(wordBytes, uint32(len(p.b)))
	return p.b, nil
}

// packer appends arrays to a packed form.
type packer struct{ b []byte }

func (p *packer) set(word int, v uint32) { binary.LittleEndian.PutUint32(p.b[4*word:], v) }

// array appends a slice of unsigned integers and sets the word to its offset.
func (p *packer) array(word int, elements any) {
	p.set(word, uint32(len(p.b)))
	p.b, _ = binary.Append(p.b, binary.LittleEndian, elements) // It fails for types of no fixed size only.
	p.b = append(p.b, make([]byte, pad16(len(p.b))-len(p.b))...)
}

// pad16 returns n rounded up to a multiple of 16.
func pad16(n int) int { return (n + 15) &^ 15 }

// trie appends a trie: for each node its number of children, its label and
// whether a token ends there (a bit); and the tokens' ids in the order of their
// nodes, all low bytes, all middle bytes, all high bytes. What this leaves out are
// sums: each block of 64 nodes starts with the first child of its first node and
// the number of tokens that end before it.
func (p *packer) trie(word int, t *trie, id func(int32) int32) {
	nodes := len(t.label)
	blocks := make([]uint32, 0, nodes/trieBlock*2+2)
	ends := make([]uint64, (nodes+trieBlock-1)/trieBlock)
	kids := make([]byte, nodes)
	var ids [3][]byte
	for n := range nodes {
		if n%trieBlock == 0 {
			blocks = append(blocks, uint32(t.first[n]), uint32(len(ids[0])))
		}
		kids[n] = byte(t.first[n+1] - t.first[n]) // Tokens are UTF-8, so bytes 0xFF never occur.
		if t.id[n] < 0 {
			continue
		}
		ends[n/trieBlock] |= 1 << (n % trieBlock)
		for i := range ids {
			ids[i] = append(ids[i], byte(id(t.id[n])>>(8*i)))
		}
	}
	p.set(word+trieNodes, uint32(nodes))
	p.set(word+trieTokens, uint32(len(ids[0])))
	p.array(word+trieBlocks, blocks)
	p.array(word+trieKids, kids)
	p.array(word+trieLabels, t.label)
	p.array(word+trieEnds, ends)
	p.array(word+trieIDs, slices.Concat(ids[:]...))
}

// reduced returns tables that give the same ids and have the options in them, but
// for whether Hangul decomposes. A character that no token spells makes its word
// unknown, whatever it decomposes or is lowered to, so that nearly all are alike.
func (t *Tokenizer) reduced() (*Tables, error) {
	var spelled [codePoints / 64]uint64
	var pages [codePoints / pageSize]bool
	for _, token := range t.vocab[:t.pieces.tokens()] {
		for _, c := range token {
			spelled[c/64] |= 1 << (c % 64)
			pages[c/pageSize] = true
		}
	}
	known := func(c rune) bool { return spelled[c/64]>>(c%64)&1 != 0 }
	record := func(c rune) Record { return t.reduce(c, known) }
	b := newBuilder()
	alike := map[uint16]uint16{} // what a block becomes on pages of which nothing is spelled
	for page, old := range t.tables.Page {
		at, ok := alike[old]
		if !ok || pages[page] {
			at = b.block(rune(page*pageSize), record)
		}
		if !pages[page] {
			alike[old] = at
		}
		b.tables.Page = append(b.tables.Page, at)
	}
	return b.done()
}

// reduce returns the record of c without what makes no difference.
func (t *Tokenizer) reduce(c rune, known func(rune) bool) Record {
	tables := t.tables
	at := tables.entry(c)
	r := Record{Class: tables.Class[at] &^ t.keep}
	if t.strip {
		r.Combining, r.Decomposed = tables.Combining[at], tables.run(tables.Decomposed[at])
	} else {
		r.Class &^= Mark
	}
	if t.lower {
		r.Lower = tables.run(tables.Lower[at])
	}
	if r.Class&(Space|Punctuation|Mark) == 0 && !known(c) && t.unspelled(c, known) {
		return Record{Class: r.Class}
	}
	return r
}

// unspelled reports whether c only adds characters to a word, and one of them is
// not known.
func (t *Tokenizer) unspelled(c rune, known func(rune) bool) bool {
	tables := t.tables
	parts := []rune{c}
	if t.strip && tables.Decomposed[tables.entry(c)] != 0 {
		parts = tables.AppendDecomposed(nil, c)
	}
	found := false
	for _, d := range parts {
		if t.strip && tables.Class[tables.entry(d)]&Mark != 0 {
			continue
		}
		lowered := []rune{d}
		if t.lower {
			lowered = tables.AppendLower(nil, d)
		}
		for _, l := range lowered {
			if tables.Class[tables.entry(l)]&(Space|Punctuation) != 0 {
				return false
			}
			found = found || !known(l)
		}
	}
	return found
}

// run returns the code points stored at offset at.
func (t *Tables) run(at uint16) string {
	var runes []rune
	if at != 0 {
		runes = t.appendRun(nil, 0, at)
	}
	return string(runes)
}

// OpenPacked returns the tokenizer that b is the packed form of. It accepts
// exactly what Pack makes, so that no look-up of the guest leaves b, and no id is
// outside of the vocabulary. The tokenizer works through the tables in b, whatever
// those of this package are, and does not share memory with b. Errors wrap
// ErrFormat.
func OpenPacked(b []byte) (*Tokenizer, error) {
	t, err := unpack(b)
	if err != nil {
		return nil, fmt.Errorf("%w: packed tokenizer: %w", ErrFormat, err)
	}
	again, err := Pack(t)
	if err != nil {
		return nil, fmt.Errorf("%w: packed tokenizer: %w", ErrFormat, err)
	}
	if !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: packed tokenizer: %d bytes that are not what its content is packed to; pack it again", ErrFormat, len(b))
	}
	return t, nil
}

// unpack reads a packed form as far as it must to build the same tokenizer.
func unpack(b []byte) (*Tokenizer, error) {
	if len(b) < 4*packWords || binary.LittleEndian.Uint32(b) != packMagic {
		return nil, fmt.Errorf("%d bytes without its header", len(b))
	}
	u := &unpacker{b: b}
	if v := u.word(wordVersion); v != packVersion {
		return nil, fmt.Errorf("version %d, want %d", v, packVersion)
	}
	tables := &Tables{
		Page:       array[uint16](u, wordTables, codePoints/pageSize),
		Entry:      array[uint16](u, wordTables+1, u.word(wordEntries)),
		Class:      array[Class](u, wordTables+2, u.word(wordRecords)),
		Combining:  array[uint8](u, wordTables+3, u.word(wordRecords)),
		Decomposed: array[uint16](u, wordTables+4, u.word(wordRecords)),
		Lower:      array[uint16](u, wordTables+5, u.word(wordRecords)),
		Runes:      array[uint32](u, wordTables+6, u.word(wordRunes)),
	}
	prefix := array[byte](u, wordPrefix, u.word(wordPrefixBytes))
	pieces, added := u.trie(wordPieces), u.trie(wordAdded)
	if u.err != nil {
		return nil, u.err
	}
	if err := tables.validate(); err != nil {
		return nil, err
	}
	for c := range rune(utf8.RuneSelf) {
		if at := tables.entry(c); tables.Combining[at] != 0 || tables.Decomposed[at] != 0 || tables.Class[at]&Mark != 0 {
			return nil, fmt.Errorf("ASCII character %#x is a mark or decomposes", c)
		}
	}
	vocab := make([]string, len(pieces))
	if err := arrange(vocab, pieces); err != nil {
		return nil, err
	}
	// Added tokens that the vocabulary lacks have the ids after it, in order.
	slices.SortFunc(added, func(a, b piece) int { return a.id - b.id })
	o := Options{Accents: AccentsKeep, MaxWord: u.word(wordMaxWord), Prefix: string(prefix), Added: make([]string, len(added))}
	if u.word(wordHangul) != 0 {
		o.Accents = AccentsStrip
	}
	for i, p := range added {
		o.Added[i] = p.token
	}
	t, err := compose("", vocab, o)
	if err != nil {
		return nil, err
	}
	t.tables = tables
	for i, id := range t.special.list() {
		*id = int32(u.word(wordUnknown + i))
		if none := id == &t.special.Mask && *id == -1; !none && (*id < 0 || int(*id) >= len(t.vocab)) {
			return nil, fmt.Errorf("special token %d of %d", *id, len(t.vocab))
		}
	}
	return t, nil
}

// piece is a token of a packed trie.
type piece struct {
	token string
	id    int
}

// arrange puts the tokens where their ids say, each place of vocab being some token's.
func arrange(vocab []string, pieces []piece) error {
	used := make([]bool, len(vocab))
	for _, p := range pieces {
		if p.id >= len(vocab) || used[p.id] {
			return fmt.Errorf("token %q has id %d, which is another's or beyond %d tokens", p.token, p.id, len(vocab))
		}
		vocab[p.id], used[p.id] = p.token, true
	}
	return nil
}

// unpacker reads the arrays of a packed form; err is the first error.
type unpacker struct {
	b   []byte
	err error
}

func (u *unpacker) word(i int) int { return int(binary.LittleEndian.Uint32(u.b[4*i:])) }

// array returns a copy of the n elements at the offset that the word names.
func array[T ~uint8 | ~uint16 | ~uint32 | ~uint64](u *unpacker, word, n int) []T {
	at, size := u.word(word), binary.Size(T(0))
	if u.err != nil {
		return nil
	}
	if at > len(u.b) || n > (len(u.b)-at)/size {
		u.err = fmt.Errorf("array %d has %d elements at %d of %d bytes", word, n, at, len(u.b))
		return nil
	}
	s := make([]T, n)
	_, u.err = binary.Decode(u.b[at:], binary.LittleEndian, s)
	return s
}

// trie returns the tokens of a trie, in the order of their nodes.
func (u *unpacker) trie(word int) []piece {
	nodes, tokens := u.word(word+trieNodes), u.word(word+trieTokens)
	kids, labels := array[byte](u, word+trieKids, nodes), array[byte](u, word+trieLabels, nodes)
	ends := array[uint64](u, word+trieEnds, (nodes+trieBlock-1)/trieBlock)
	ids := array[byte](u, word+trieIDs, 3*tokens)
	if u.err != nil {
		return nil
	}
	prefixes := make([]string, 1, nodes+1) // what leads to the nodes so far
	var pieces []piece
	text := 0
	for n := range nodes {
		if n >= len(prefixes) || len(prefixes)+int(kids[n]) > nodes {
			u.err = fmt.Errorf("trie of %d nodes whose children do not add up to them", nodes)
			return nil
		}
		prefix := prefixes[n]
		prefixes[n] = ""
		if kids[n] > 0 && len(prefix) == maxPackedToken || text > maxUnpacked {
			u.err = fmt.Errorf("tokens of more than %d bytes, or %d bytes in all", maxPackedToken, maxUnpacked)
			return nil
		}
		for range kids[n] {
			prefixes = append(prefixes, prefix+string(labels[len(prefixes):len(prefixes)+1]))
			text += len(prefix) + 1
		}
		if ends[n/trieBlock]>>(n%trieBlock)&1 == 0 {
			continue
		}
		i := len(pieces)
		if i == tokens {
			u.err = fmt.Errorf("trie with more than %d tokens", tokens)
			return nil
		}
		pieces = append(pieces, piece{prefix, int(ids[i]) | int(ids[tokens+i])<<8 | int(ids[2*tokens+i])<<16})
	}
	return pieces
}
