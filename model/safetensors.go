package model

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// The safetensors format (https://github.com/huggingface/safetensors): eight
// bytes, little-endian, with the length of a JSON header; the header, which
// maps each tensor's name to its type, shape and place; then the values,
// little-endian and without gaps.

// maxHeader is the longest header that is read, the limit of the reference
// implementation too.
const maxHeader = 100 << 20

// maxRank is the highest number of axes that a tensor may have.
const maxRank = 8

// metadataKey is the header entry that holds a map of strings and no tensor.
const metadataKey = "__metadata__"

// configKey is the metadata entry in which Save keeps the configuration.
const configKey = "wisp.config"

// tensorInfo is a tensor's entry in the header.
type tensorInfo struct {
	Type    string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"` // first byte and the one after the last, counted from the end of the header
}

// valueSize gives the bytes of one value of the types that are read.
var valueSize = map[string]int64{"F32": 4, "F16": 2, "BF16": 2}

// Save writes a model's weights to path as a safetensors file, with the
// configuration in its metadata beside the given entries, which may be nil.
// It replaces a file of that name at once: whoever reads sees the old file or
// the new one. The weights must pass Check.
func Save(path string, c Config, w Weights, metadata map[string]string) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("model: save %s: %w", path, err)
	}
	if err := w.Check(c); err != nil {
		return fmt.Errorf("model: save %s: %w", path, err)
	}
	config, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("model: save %s: %w", path, err)
	}
	all := map[string]string{configKey: string(config)}
	for k, v := range metadata {
		if k == configKey {
			return fmt.Errorf("model: save %s: %w: metadata must not hold %q, which Save writes", path, ErrFormat, k)
		}
		all[k] = v
	}
	return SaveTensors(path, w, all)
}

// Load reads what Save wrote: the configuration, the weights, which have
// passed Check, and the metadata.
func Load(path string) (Config, Weights, map[string]string, error) {
	var c Config
	tensors, metadata, err := LoadTensors(path)
	if err != nil {
		return c, nil, nil, err
	}
	text, ok := metadata[configKey]
	if !ok {
		return c, nil, nil, fmt.Errorf("model: load %s: %w: no %q in the metadata, so this is not a file written by wisp train", path, ErrFormat, configKey)
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, nil, nil, fmt.Errorf("model: load %s: %w: metadata %q: %w", path, ErrFormat, configKey, err)
	}
	if err := c.Validate(); err != nil {
		return c, nil, nil, fmt.Errorf("model: load %s: %w", path, err)
	}
	w := Weights(tensors)
	if err := w.Check(c); err != nil {
		return c, nil, nil, fmt.Errorf("model: load %s: %w", path, err)
	}
	delete(metadata, configKey)
	return c, w, metadata, nil
}

// SaveTensors writes named tensors and metadata, which may be nil, to path in
// the safetensors format, replacing a file of that name at once.
func SaveTensors(path string, tensors map[string]*Tensor, metadata map[string]string) error {
	err := replaceFile(path, func(w io.Writer) error { return WriteTensors(w, tensors, metadata) })
	if err != nil {
		return fmt.Errorf("model: save %s: %w", path, err)
	}
	return nil
}

// LoadTensors reads a safetensors file with values of type F32, F16 or BF16,
// the latter two widened to float32. The returned maps belong to the caller.
func LoadTensors(path string) (map[string]*Tensor, map[string]string, error) {
	return loadTensors(path, func(string) bool { return true })
}

// loadTensors is LoadTensors for the tensors whose name is wanted.
func loadTensors(path string, wanted func(name string) bool) (map[string]*Tensor, map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("model: load: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("model: load: %w", err)
	}
	tensors, metadata, err := readTensors(f, info.Size(), wanted)
	if err != nil {
		return nil, nil, fmt.Errorf("model: load %s: %w", path, err)
	}
	return tensors, metadata, nil
}

// WriteTensors writes a safetensors file with values of type F32 to w. The
// order of the tensors is that of their names, so that equal tensors give
// equal bytes.
func WriteTensors(w io.Writer, tensors map[string]*Tensor, metadata map[string]string) error {
	header := map[string]any{}
	if len(metadata) > 0 {
		header[metadataKey] = metadata
	}
	names := make([]string, 0, len(tensors))
	for name := range tensors {
		if name == metadataKey {
			return fmt.Errorf("%w: a tensor must not be called %q", ErrFormat, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var end int64
	for _, name := range names {
		t := tensors[name]
		e := tensorInfo{Type: "F32", Shape: make([]int64, len(t.Shape))}
		count := int64(1)
		for i, n := range t.Shape {
			e.Shape[i] = int64(n)
			count *= int64(n)
		}
		if count != int64(len(t.Data)) {
			return fmt.Errorf("%w: tensor %q of shape %v holds %d values", ErrFormat, name, t.Shape, len(t.Data))
		}
		e.Offsets = [2]int64{end, end + 4*count}
		end = e.Offsets[1]
		header[name] = e
	}
	text, err := json.Marshal(header)
	if err != nil {
		return err
	}
	// Spaces bring the values to a multiple of eight bytes, as the format asks.
	text = append(text, strings.Repeat(" ", -len(text)&7)...)
	if len(text) > maxHeader {
		return fmt.Errorf("%w: header of %d bytes, the limit is %d", ErrFormat, len(text), maxHeader)
	}
	b := bufio.NewWriterSize(w, 1<<16)
	if err := binary.Write(b, binary.LittleEndian, uint64(len(text))); err != nil {
		return err
	}
	if _, err := b.Write(text); err != nil {
		return err
	}
	var word [4]byte
	for _, name := range names {
		for _, v := range tensors[name].Data {
			binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
			if _, err := b.Write(word[:]); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}

// ReadTensors reads a safetensors file of size bytes from r. It trusts nothing:
// every length is checked against size before memory is allocated for it, and
// the tensors must cover the bytes after the header without gap or overlap.
func ReadTensors(r io.ReaderAt, size int64) (map[string]*Tensor, map[string]string, error) {
	return readTensors(r, size, func(string) bool { return true })
}

// readTensors is ReadTensors for the tensors whose name is wanted. The others
// may be of any type; only their place is checked.
func readTensors(r io.ReaderAt, size int64, wanted func(name string) bool) (map[string]*Tensor, map[string]string, error) {
	src := io.NewSectionReader(r, 0, size)
	var length uint64
	if err := binary.Read(src, binary.LittleEndian, &length); err != nil {
		return nil, nil, fmt.Errorf("%w: %d bytes are too few for a header length", ErrFormat, size)
	}
	if length > maxHeader || int64(length) > size-8 {
		return nil, nil, fmt.Errorf("%w: header of %d bytes in a file of %d, the limit is %d", ErrFormat, length, size, maxHeader)
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(src, text); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(text, &header); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	metadata := map[string]string{}
	if m, ok := header[metadataKey]; ok {
		if err := json.Unmarshal(m, &metadata); err != nil {
			return nil, nil, fmt.Errorf("%w: %s: %w", ErrFormat, metadataKey, err)
		}
		delete(header, metadataKey)
	}
	infos := make(map[string]tensorInfo, len(header))
	names := make([]string, 0, len(header))
	for name, m := range header {
		var e tensorInfo
		if err := json.Unmarshal(m, &e); err != nil {
			return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		infos[name] = e
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		x, y := infos[a].Offsets, infos[b].Offsets
		return cmp.Or(cmp.Compare(x[0], y[0]), cmp.Compare(x[1], y[1]), cmp.Compare(a, b))
	})
	body := size - 8 - int64(length)
	var end int64
	for _, name := range names {
		e := infos[name]
		if err := e.check(body, wanted(name)); err != nil {
			return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		if e.Offsets[0] != end {
			return nil, nil, fmt.Errorf("%w: tensor %q begins at byte %d of the values, the tensor before it ends at %d", ErrFormat, name, e.Offsets[0], end)
		}
		end = e.Offsets[1]
	}
	if end != body {
		return nil, nil, fmt.Errorf("%w: the tensors end at byte %d of the values, the file at %d", ErrFormat, end, body)
	}
	tensors := make(map[string]*Tensor, len(names))
	values := bufio.NewReaderSize(src, 1<<16)
	for _, name := range names {
		e := infos[name]
		if !wanted(name) {
			if _, err := io.CopyN(io.Discard, values, e.Offsets[1]-e.Offsets[0]); err != nil {
				return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
			}
			continue
		}
		t := NewTensor(e.ints()...)
		if err := readValues(t.Data, values, e.Type); err != nil {
			return nil, nil, fmt.Errorf("%w: tensor %q: %w", ErrFormat, name, err)
		}
		tensors[name] = t
	}
	return tensors, metadata, nil
}

// check holds one header entry against the number of bytes there are; type and
// shape count only where the values are to be read.
func (e tensorInfo) check(body int64, read bool) error {
	begin, end := e.Offsets[0], e.Offsets[1]
	if begin < 0 || end < begin || end > body {
		return fmt.Errorf("bytes %d to %d of %d", begin, end, body)
	}
	if !read {
		return nil
	}
	width, ok := valueSize[e.Type]
	if !ok {
		return fmt.Errorf("values of type %q, want F32, F16 or BF16", e.Type)
	}
	if len(e.Shape) > maxRank {
		return fmt.Errorf("%d axes, the limit is %d", len(e.Shape), maxRank)
	}
	count := int64(1)
	for _, n := range e.Shape {
		if n < 0 || n > 0 && count > body/n {
			return fmt.Errorf("shape %v does not fit into %d bytes", e.Shape, body)
		}
		count *= n
	}
	if count*width != end-begin {
		return fmt.Errorf("shape %v of %s in %d bytes", e.Shape, e.Type, end-begin)
	}
	return nil
}

func (e tensorInfo) ints() []int {
	shape := make([]int, len(e.Shape))
	for i, n := range e.Shape {
		shape[i] = int(n)
	}
	return shape
}

// readValues fills dst with little-endian values of the given type.
func readValues(dst []float32, r io.Reader, kind string) error {
	var word [4]byte
	width := valueSize[kind]
	for i := range dst {
		if _, err := io.ReadFull(r, word[:width]); err != nil {
			return err
		}
		switch kind {
		case "F32":
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(word[:]))
		case "BF16":
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(word[:])) << 16)
		default:
			dst[i] = fromHalf(binary.LittleEndian.Uint16(word[:]))
		}
	}
	return nil
}

// fromHalf widens an IEEE 754 binary16 value, which float32 holds exactly.
func fromHalf(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and subnormals: fraction·2^-24
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// replaceFile writes a file beside path and renames it when it is whole.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
