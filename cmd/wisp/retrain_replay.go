package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/retrain"
)

// replayRun does the run of the manifest at path again, from the files beside it, and
// compares what comes out. It is kept in the folder out, where that is named. A
// signature is compared where there is a key.
func replayRun(ctx context.Context, w io.Writer, path, out, keyFile string, p *progress) (err error) {
	m, err := retrain.LoadManifest(path)
	if err != nil {
		return err
	}
	if m.Outcome == nil {
		return fmt.Errorf("%s is of a run that was cut off: finish it first, with the command that began it", path)
	}
	var key ed25519.PrivateKey
	if keyFile != "" {
		if key, err = artifact.ReadPrivateKey(keyFile); err != nil {
			return err
		}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	dir := retrain.Folder(filepath.Dir(filepath.Dir(filepath.Dir(abs)))) // STATE/runs/N/manifest.json
	if out == "" {
		if out, err = os.MkdirTemp("", "wisp-replay-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(out)) }()
	} else if entries, err := os.ReadDir(out); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty; name a folder for what is made again", out)
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	e := execution{dir: dir, work: out, m: m, key: key, p: p}
	o, err := e.run(ctx)
	if err != nil {
		return err
	}
	if key == nil {
		o.Signed = m.Outcome.Signed
	}
	if other := differences(m.Outcome, o); len(other) > 0 {
		return fmt.Errorf("run %d came to something else this time: %s%s", m.Run, strings.Join(other, ", "), elsewhere(m))
	}
	fmt.Fprintf(w, "run %d came to the same bytes: model %s, artefact %s; %s\n", m.Run, short(o.Next.ModelSHA256), short(o.Next.Digest), o.Reason)
	return nil
}

func short(digest string) string { return digest[:min(12, len(digest))] }

// differences names what is not the same in two outcomes, in the order in which it is
// made.
func differences(a, b *retrain.Outcome) []string {
	var other []string
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"prepared data", a.Prepared, b.Prepared},
		{"model", a.Next.ModelSHA256, b.Next.ModelSHA256},
		{"student", a.Student, b.Student},
		{"artefact", a.Next.Digest, b.Next.Digest},
		{"signed artefact", a.Signed, b.Signed},
		{"verdict", a.Verdict, b.Verdict},
		{"reason", a.Reason, b.Reason},
	} {
		x, xerr := json.Marshal(part.a)
		y, yerr := json.Marshal(part.b)
		if xerr != nil || yerr != nil || !slices.Equal(x, y) {
			other = append(other, part.name)
		}
	}
	return other
}

// elsewhere says in what this process differs from that of the run, which may be why
// its bytes do.
func elsewhere(m *retrain.Manifest) string {
	now := (&retrainJob{}).newManifest(&m.Before, nil)
	for _, part := range []struct {
		name    string
		was, is any
	}{{"wisp", m.Wisp, now.Wisp}, {"Go", m.Go, now.Go}, {"BLAS", m.BLAS, now.BLAS}, {"threads", m.Threads, now.Threads}} {
		if part.was != part.is {
			return fmt.Sprintf("; it was made with %s %v, this is %v", part.name, part.was, part.is)
		}
	}
	return ""
}
