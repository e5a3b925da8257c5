package artifact

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// NewOrigin returns the origin at a location: an address that begins with http://
// or https://, or the path of a file; either of a .wisp file or of a .head that
// [Store.Publish] wrote.
func NewOrigin(location string) Origin {
	if strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://") {
		return &HTTPOrigin{URL: location}
	}
	return FileOrigin(location)
}

// FileOrigin returns the origin that is the file at path: a .wisp file, or a .head
// in a [Store], whose sections lie beside it.
func FileOrigin(path string) Origin { return &fileOrigin{path: path} }

type fileOrigin struct{ path string }

// spread reports whether a location is that of a head without sections.
func spread(location string) bool { return strings.HasSuffix(location, headSuffix) }

func (f *fileOrigin) String() string { return f.path }

func (f *fileOrigin) Close() error { return nil }

func (f *fileOrigin) Head(context.Context) (io.ReadCloser, int64, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, 0, err
	}
	if spread(f.path) {
		return file, -1, nil
	}
	info, err := file.Stat()
	if err != nil {
		_ = file.Close() // only read from
		return nil, 0, err
	}
	return file, info.Size(), nil
}

func (f *fileOrigin) Section(_ context.Context, s SectionInfo, from int64) (io.ReadCloser, error) {
	path, offset := f.path, s.Offset
	if spread(f.path) {
		path, offset = filepath.Join(filepath.Dir(f.path), sectionsDir, hex.EncodeToString(s.Digest[:])), 0
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(file, offset+from, s.Stored-from), file}, nil
}
