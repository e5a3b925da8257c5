package hub

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Files of an encoder's folder. The weights are one file, or an index and the
// shards that it names.
const (
	configFile  = "config.json"
	tokenFile   = "tokenizer.json"
	vocabFile   = "vocab.txt"
	weightsFile = "model.safetensors"
	indexFile   = "model.safetensors.index.json"
)

// smallFiles are the files beside the weights. Only the first is needed, and
// one of tokenizer.json and vocab.txt.
var smallFiles = []string{
	configFile, tokenFile, vocabFile, "tokenizer_config.json", "special_tokens_map.json",
	"modules.json", "sentence_bert_config.json", "1_Pooling/config.json",
}

const (
	// maxText is the most bytes of a JSON or text file, which is read whole.
	maxText = 64 << 20
	// maxShards is the most files that an index may name.
	maxShards = 1000
	// maxHeader is the longest header of a safetensors file that its readers take.
	maxHeader = 100 << 20
)

// Limits bound what is written.
type Limits struct {
	File  int64 // bytes of one file; 0 means 8 GiB
	Total int64 // bytes of all files together; 0 means 8 GiB
}

const defaultLimit = 8 << 30

func (l Limits) withDefaults() Limits {
	if l.File <= 0 {
		l.File = defaultLimit
	}
	if l.Total <= 0 {
		l.Total = defaultLimit
	}
	return l
}

// meta is what a hub or an archive states of a file.
type meta struct {
	name      string
	size      int64
	sum       checksum
	validator string // a strong ETag or a Last-Modified of the bytes, for If-Range
}

// budget adds up the sizes of files and refuses those beyond the limits.
type budget struct {
	limits Limits
	total  int64
}

func (b *budget) add(m meta) error {
	limit := b.limits.File
	if isText(m.name) {
		limit = min(limit, maxText)
	}
	if m.size > limit {
		return fmt.Errorf("%w: %s has %d bytes; at most %d are taken", ErrLimit, m.name, m.size, limit)
	}
	// Both are at most the limits, so that the sum does not overflow.
	if b.total += m.size; b.total > b.limits.Total {
		return fmt.Errorf("%w: the files up to %s have %d bytes together; at most %d are taken", ErrLimit, m.name, b.total, b.limits.Total)
	}
	return nil
}

func isText(name string) bool { return path.Ext(name) != path.Ext(weightsFile) }

// safeName says whether a name from outside stays inside the folder on every
// operating system.
func safeName(name string) bool {
	if !fs.ValidPath(name) || name == "." || !filepath.IsLocal(filepath.FromSlash(name)) {
		return false
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || strings.ContainsRune(`\:*?"<>|`, r) {
			return false
		}
	}
	return true
}

// shards returns the files that an index of sharded weights names, in order.
func shards(index []byte) ([]string, error) {
	var x struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(index, &x); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrResponse, indexFile, err)
	}
	names := slices.Compact(slices.Sorted(maps.Values(x.WeightMap)))
	if len(names) == 0 || len(names) > maxShards {
		return nil, fmt.Errorf("%w: %s names %d files; 1 to %d are possible", ErrResponse, indexFile, len(names), maxShards)
	}
	for _, name := range names {
		if !safeName(name) || path.Ext(name) != path.Ext(weightsFile) {
			return nil, fmt.Errorf("%w: %s names %q, which is no safetensors file inside the folder; do not use this repository", ErrResponse, indexFile, name)
		}
	}
	return names, nil
}

// errWebPage reports a web page where a file was expected.
var errWebPage = errors.New("it is a web page; is the address right, and is there no log-in page or proxy in between?")

// checkForm reports contents that cannot be those of a file of this name. It
// finds error pages that were sent as if they were the file.
func checkForm(name string, r io.ReaderAt, size int64) error {
	var err error
	if isText(name) {
		err = checkText(name, r, size)
	} else {
		err = checkSafetensors(r, size)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrResponse, name, err)
	}
	return nil
}

func checkText(name string, r io.ReaderAt, size int64) error {
	text, err := io.ReadAll(io.NewSectionReader(r, 0, min(size, maxText)))
	switch {
	case err != nil:
		return err
	case strings.HasPrefix(http.DetectContentType(text), "text/html"):
		return errWebPage
	case path.Ext(name) == ".json" && !json.Valid(text):
		return errors.New("it is not JSON")
	case bytes.IndexByte(text, 0) >= 0:
		return errors.New("it is not text")
	}
	return nil
}

func checkSafetensors(r io.ReaderAt, size int64) error {
	var start [9]byte // the length of the header, then its first byte
	if n, err := r.ReadAt(start[:], 0); n < len(start) && err != nil {
		return fmt.Errorf("it is no safetensors file: %w", err)
	}
	header := binary.LittleEndian.Uint64(start[:8])
	if start[8] != '{' || header > maxHeader || int64(header) > size-8 {
		return errors.New("it is no safetensors file")
	}
	return nil
}
