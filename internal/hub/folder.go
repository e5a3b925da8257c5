package hub

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// ManifestName is the file, beside the others, that says what is known of them.
const ManifestName = ".wisp-pull.json"

const (
	manifestVersion = 1
	partSuffix      = ".part"
)

// manifest is the contents of ManifestName.
type manifest struct {
	Version int    `json:"version"`
	Source  string `json:"source"`           // ORG/NAME, or the name of the wheel
	Commit  string `json:"commit,omitempty"` // of the latest complete pull
	// Files are those under their names, Parts those not yet complete.
	Files map[string]entry `json:"files"`
	Parts map[string]entry `json:"parts,omitempty"`
}

// entry is a file as the manifest knows it.
type entry struct {
	Bytes     int64    `json:"bytes"`
	Stated    checksum `json:"stated,omitempty"`    // by the hub or the wheel
	Validator string   `json:"validator,omitempty"` // see meta
	SHA256    string   `json:"sha256,omitempty"`    // as computed here, of a complete file
}

// folder is the output folder. Every access goes through root, so that no name
// and no link leads out of it.
type folder struct {
	root     *os.Root
	dir      string // for messages
	manifest manifest
	// wrap is set by tests, to make writing fail.
	wrap func(io.Writer) io.Writer
}

// openFolder opens dir, making it if it is not there, for files of source.
// Files of another source are left alone, with an error that wraps ErrFolder.
func openFolder(dir, source string) (_ *folder, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("hub: output: %w; name another folder", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("hub: output: %w; name another folder", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, root.Close())
		}
	}()
	f := &folder{root: root, dir: dir, manifest: manifest{Version: manifestVersion, Source: source}}
	b, err := root.ReadFile(ManifestName)
	switch {
	case err == nil:
		f.manifest = manifest{}
		if err := json.Unmarshal(b, &f.manifest); err != nil || f.manifest.Version != manifestVersion {
			return nil, fmt.Errorf("%w: %s is damaged or of another version; remove it or name another folder", ErrFolder, f.path(ManifestName))
		}
		if f.manifest.Source != source {
			return nil, fmt.Errorf("%w: %s holds %s; name another folder", ErrFolder, dir, f.manifest.Source)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("hub: output: %w; name another folder", err)
	}
	if f.manifest.Files == nil {
		f.manifest.Files = map[string]entry{}
	}
	if f.manifest.Parts == nil {
		f.manifest.Parts = map[string]entry{}
	}
	return f, nil
}

func (f *folder) close() error { return f.root.Close() }

// path is where a file is, for messages.
func (f *folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

func (f *folder) save() error {
	b, err := json.MarshalIndent(f.manifest, "", "  ")
	if err == nil {
		err = f.root.WriteFile(ManifestName+".tmp", append(b, '\n'), 0o644)
	}
	if err == nil {
		err = f.root.Rename(ManifestName+".tmp", ManifestName)
	}
	if err != nil {
		return fmt.Errorf("hub: write %s: %w", f.path(ManifestName), err)
	}
	return nil
}

// item is a file to be brought into the folder.
type item struct {
	meta
	cached bool  // it is there already
	entry  entry // of a cached file
}

// look returns the item of m. It is cached if the folder has the right contents:
// those of the stated checksum, or else those that were fetched under the same
// validator. A file of other contents that did not come from a pull is an error
// that wraps ErrFolder.
func (f *folder) look(m meta) (item, error) {
	e, cached, err := f.cached(m)
	return item{m, cached, e}, err
}

func (f *folder) cached(m meta) (entry, bool, error) {
	info, err := f.root.Lstat(m.name)
	if errors.Is(err, fs.ErrNotExist) {
		return entry{}, false, nil
	}
	if err != nil {
		return entry{}, false, fmt.Errorf("hub: read %s: %w", f.path(m.name), err)
	}
	known, ours := f.manifest.Files[m.name]
	if info.Mode().IsRegular() && info.Size() == m.size {
		file, err := f.root.Open(m.name)
		if err != nil {
			return entry{}, false, fmt.Errorf("hub: read %s: %w", f.path(m.name), err)
		}
		defer file.Close() //nolint:errcheck // only read from
		e, err := m.verify(file)
		if err == nil && (m.sum != "" || known.SHA256 == e.SHA256 && m.validator != "" && known.Validator == m.validator) {
			return e, true, nil
		}
		if err != nil && !errors.Is(err, ErrChecksum) {
			return entry{}, false, err
		}
	}
	if !ours || !info.Mode().IsRegular() {
		return entry{}, false, fmt.Errorf("%w: %s differs from the file to be written and did not come from a pull; name another folder or move it away", ErrFolder, f.path(m.name))
	}
	return entry{}, false, nil
}

// verify reads a complete file, compares it with the stated checksum and
// returns what is to be kept of it.
func (m meta) verify(r io.Reader) (entry, error) {
	ours, stated := sha256.New(), m.sum.hash(m.size)
	if _, err := io.Copy(io.MultiWriter(ours, stated), r); err != nil {
		return entry{}, fmt.Errorf("hub: read %s: %w", m.name, err)
	}
	e := entry{Bytes: m.size, Stated: m.sum, Validator: m.validator, SHA256: hex.EncodeToString(ours.Sum(nil))}
	return e, m.sum.compare(m.name, stated)
}

// part is a file that is not yet complete. It is appended to.
type part struct {
	f    *folder
	file *os.File
	w    io.Writer
	meta meta
	have int64 // bytes in it
	// resumed says that the bytes came over more than one connection.
	resumed bool
}

// openPart opens the part of m, with what an interrupted run left of it if that
// belongs to the same contents.
func (f *folder) openPart(m meta) (_ *part, err error) {
	if err := f.root.MkdirAll(path.Dir(m.name), 0o755); err != nil {
		return nil, f.writeError(m.name, err)
	}
	file, err := f.root.OpenFile(m.name+partSuffix, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, f.writeError(m.name+partSuffix, err)
	}
	p := &part{f: f, file: file, w: file, meta: m}
	if f.wrap != nil {
		p.w = f.wrap(file)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(f.writeError(m.name+partSuffix, err), file.Close())
	}
	known := f.manifest.Parts[m.name]
	same := known.Bytes == m.size && known.Stated == m.sum && (m.sum != "" || known.Validator != "")
	if same && info.Size() <= m.size {
		p.have, p.meta.validator, p.resumed = info.Size(), known.Validator, info.Size() > 0
		return p, nil
	}
	if err := p.restart(m.validator); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return p, nil
}

// restart empties the part; the bytes that follow have the validator given.
func (p *part) restart(validator string) error {
	if err := p.file.Truncate(0); err != nil {
		return p.f.writeError(p.meta.name+partSuffix, err)
	}
	p.have, p.meta.validator, p.resumed = 0, validator, false
	p.f.manifest.Parts[p.meta.name] = entry{Bytes: p.meta.size, Stated: p.meta.sum, Validator: validator}
	return p.f.save()
}

// Write appends to the part.
func (p *part) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	p.have += int64(n)
	if err != nil {
		return n, p.f.writeError(p.meta.name+partSuffix, err)
	}
	return n, nil
}

// finish closes a part that has all its bytes, checks it and gives it its name.
// A part with wrong contents is removed.
func (p *part) finish() (entry, error) {
	name := p.meta.name
	e, err := p.meta.verify(io.NewSectionReader(p.file, 0, p.have))
	if err == nil {
		err = checkForm(name, p.file, p.have)
	}
	if err != nil {
		return entry{}, errors.Join(err, p.discard())
	}
	if err := errors.Join(p.file.Sync(), p.file.Close()); err != nil {
		return entry{}, p.f.writeError(name+partSuffix, err)
	}
	// The manifest knows the file first: after a crash in between, the part is
	// complete and the next run only renames it.
	p.f.manifest.Files[name] = e
	if err := p.f.save(); err != nil {
		return entry{}, err
	}
	if err := p.f.root.Rename(name+partSuffix, name); err != nil {
		return entry{}, p.f.writeError(name, err)
	}
	delete(p.f.manifest.Parts, name)
	return e, p.f.save()
}

// discard closes and removes the part.
func (p *part) discard() error {
	delete(p.f.manifest.Parts, p.meta.name)
	return errors.Join(p.file.Close(), p.f.root.Remove(p.meta.name+partSuffix), p.f.save())
}

// complete notes that the folder has exactly these files, and removes those of
// an earlier pull that are not among them.
func (f *folder) complete(files map[string]entry, commit string) error {
	for name := range f.manifest.Files {
		if _, stays := files[name]; !stays && safeName(name) {
			if err := f.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return f.writeError(name, err)
			}
		}
	}
	for name := range f.manifest.Parts {
		if safeName(name) {
			if err := f.root.Remove(name + partSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return f.writeError(name, err)
			}
		}
	}
	f.manifest.Files, f.manifest.Parts, f.manifest.Commit = files, nil, commit
	return f.save()
}

func (f *folder) writeError(name string, err error) error {
	return fmt.Errorf("hub: write %s: %w", f.path(name), err)
}
