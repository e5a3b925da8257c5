package artifact

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"
)

// marshal encodes v as JSON without escapes for HTML and without a final
// newline.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// decodeManifest reads a manifest section and validates it. Fields that this
// version does not know are ignored. The error wraps ErrManifest.
func decodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := checkJSON(data); err != nil {
		return m, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, m.Validate()
}

// decodeItems reads an array of want items. It stops at the first item too
// many, so that an array of short values is not worth its length in memory.
func decodeItems(data []byte, want int) ([]Item, error) {
	if err := checkJSON(data); err != nil {
		return nil, fmt.Errorf("%w: items: %w", ErrContent, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("%w: items: not a JSON array", ErrContent)
	}
	var items []Item
	for dec.More() {
		if len(items) == want {
			return nil, fmt.Errorf("%w: more than the %d items of the manifest's model", ErrContent, want)
		}
		var it Item
		if err := dec.Decode(&it); err != nil {
			return nil, fmt.Errorf("%w: item %d: %w", ErrContent, len(items), err)
		}
		items = append(items, it)
	}
	return items, nil
}

// maxKeys bounds the fields of a JSON object, and with it the time that the
// search for duplicates takes.
const maxKeys = 64

// checkJSON reports what encoding/json lets pass: bytes that are not UTF-8, and
// keys that occur twice or are not of a-z, 0-9 and _. encoding/json matches
// keys without regard to case and lets the last one win; other readers differ.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the JSON text is not UTF-8")
	}
	if !json.Valid(data) {
		var v any
		return json.Unmarshal(data, &v) // says where
	}
	type level struct {
		object bool
		keys   [][]byte
	}
	var levels []level // innermost last; those popped lend their keys' memory
	push := func(object bool) {
		n := len(levels)
		if n < cap(levels) {
			levels = levels[:n+1]
			levels[n] = level{object, levels[n].keys[:0]}
			return
		}
		levels = append(levels, level{object: object})
	}
	key := false // whether the next string is a key
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			key = data[i] == '{'
			push(key)
		case '}', ']':
			key = false
			levels = levels[:len(levels)-1]
		case ',':
			key = levels[len(levels)-1].object
		case '"':
			start := i + 1
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if !key {
				continue
			}
			key = false
			l, k := &levels[len(levels)-1], data[start:i]
			if bytes.ContainsFunc(k, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }) {
				return fmt.Errorf("at byte %d: the key %q is not of a-z, 0-9 and _", start, k)
			}
			if slices.ContainsFunc(l.keys, func(o []byte) bool { return bytes.Equal(o, k) }) {
				return fmt.Errorf("at byte %d: the key %q occurs twice in its object", start, k)
			}
			if len(l.keys) == maxKeys {
				return fmt.Errorf("at byte %d: an object has more than %d keys", start, maxKeys)
			}
			l.keys = append(l.keys, k)
		}
	}
	return nil
}

// encodeGoldens writes a count and then request and answer of each golden, each
// after its length.
func encodeGoldens(goldens []Golden) ([]byte, error) {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, uint32(len(goldens)))
	for i, g := range goldens {
		for _, p := range [][]byte{g.Request, g.Answer} {
			if uint64(len(p)) > math.MaxUint32 {
				return nil, fmt.Errorf("%w: golden %d has a part of %d bytes", ErrLimit, i, len(p))
			}
			b = le.AppendUint32(b, uint32(len(p)))
			b = append(b, p...)
		}
	}
	return b, nil
}

// decodeGoldens reads what encodeGoldens wrote. The goldens share data.
func decodeGoldens(data []byte) ([]Golden, error) {
	rest := data
	fail := func(i int, what string) ([]Golden, error) {
		return nil, fmt.Errorf("%w: golden %d at byte %d: %s", ErrContent, i, len(data)-len(rest), what)
	}
	if len(rest) < 4 {
		return fail(0, "the count is cut off")
	}
	count := int64(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	var goldens []Golden
	for i := 0; int64(i) < count; i++ {
		var parts [2][]byte
		for p := range parts {
			if len(rest) < 4 {
				return fail(i, "a length is cut off")
			}
			n := int64(binary.LittleEndian.Uint32(rest))
			if n == 0 || n > int64(len(rest)-4) {
				return fail(i, fmt.Sprintf("a part of %d bytes, %d are left", n, len(rest)-4))
			}
			parts[p], rest = rest[4:4+n:4+n], rest[4+n:]
		}
		goldens = append(goldens, Golden{Request: parts[0], Answer: parts[1]})
	}
	if len(rest) != 0 {
		return fail(len(goldens), fmt.Sprintf("%d bytes follow the last", len(rest)))
	}
	return goldens, nil
}
