package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/data"
)

// provenance says what the command cmd makes an artefact of: the prepared data in
// dataDir, what that was made of, and other files; and how the data was prepared,
// the model trained by t, and the artefact made.
func provenance(cmd *cobra.Command, args []string, t training, dataDir string, files ...string) (*artifact.Provenance, error) {
	p := &artifact.Provenance{Wisp: version(), Go: runtime.Version(), BLAS: cmp.Or(t.Device, t.BLAS)}
	m, err := data.ReadManifest(dataDir)
	if err != nil {
		return nil, err
	}
	for _, command := range []string{m.Command, t.Command, commandLine(cmd, args)} {
		if command != "" { // programs that use the packages leave none
			p.Commands = append(p.Commands, command)
		}
	}
	if t.EncoderDigest != "" {
		p.Sources = append(p.Sources, artifact.Source{Name: "text encoder", SHA256: t.EncoderDigest})
	}
	for _, f := range append(m.Sources, m.Files...) {
		p.Sources = append(p.Sources, artifact.Source{Name: f.Name, SHA256: f.SHA256})
	}
	for _, path := range files {
		digest, err := fileDigest(path)
		if err != nil {
			return nil, err
		}
		p.Sources = append(p.Sources, artifact.Source{Name: filepath.Base(path), SHA256: digest})
	}
	return p, nil
}

// commandLine returns the command line of cmd as far as it bears on the result:
// without --out and --resume, flags of a --config file among the others, and files by their
// names without folders, which are nobody else's business.
func commandLine(cmd *cobra.Command, args []string) string {
	words := strings.Fields(cmd.CommandPath())
	for _, a := range args {
		words = append(words, withoutFolders(a))
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if f.Name == "out" || f.Name == "resume" || f.Name == configFlag {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, v := range values {
			words = append(words, "--"+f.Name+"="+withoutFolders(v))
		}
	})
	for i, w := range words {
		words[i] = quoted(w)
	}
	return strings.Join(words, " ")
}

// withoutFolders is the name of what lies at path s, or s where nothing does.
func withoutFolders(s string) string {
	abs, err := filepath.Abs(s)
	if err != nil {
		return s
	}
	if _, err := os.Stat(abs); err != nil {
		return s
	}
	return filepath.Base(abs)
}

// quoted puts a word into the quotes of a shell where it needs them. Control
// characters become blanks: a manifest has none.
func quoted(word string) string {
	word = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, word)
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,+@%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
