package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/retrain"
)

// publish puts what a run has made where it is to be found, and then remembers it. Each
// step may be done again: a kill between them changes nothing.
func (j *retrainJob) publish(ctx context.Context, m *retrain.Manifest) (string, error) {
	next := m.Outcome.Next
	path := j.dir.Path(next.Artefact)
	file, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: %w", retrain.ErrState, err)
	}
	if digest, err := fileDigest(path); err != nil || digest != m.Outcome.Signed {
		return "", errors.Join(err, fmt.Errorf("%w: %s is not what run %d has made", retrain.ErrState, path, m.Run))
	}
	where := path
	if j.to != "" {
		if where, err = j.replaceHead(ctx, m, path); err != nil {
			return "", err
		}
	}
	if j.out != "" {
		if err := atomicfile.Write(j.out, file); err != nil {
			return "", err
		}
		where = j.out
	}
	s := m.Before
	s.Ledger = append(s.Ledger[:len(s.Ledger):len(s.Ledger)], m.Batch)
	s.Cursor, s.Accepted = m.After, next
	if err := j.dir.Save(&s); err != nil {
		return "", err
	}
	// What only an interruption needed.
	for _, dir := range []string{retrain.ModelDir, retrain.StudentDir} {
		if err := os.Remove(j.dir.Path(j.dir.Run(m.Run), dir, checkpointFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return fmt.Sprintf("%s: version %d published; %s", where, next.Version, m.Outcome.Reason), j.dir.Prune(j.keep, next)
}

// replaceHead publishes into a folder for gateways, unless somebody else has published
// there.
func (j *retrainJob) replaceHead(ctx context.Context, m *retrain.Manifest, path string) (string, error) {
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return "", err
	}
	as := j.as
	if as == "" {
		as = a.Manifest.Name
	}
	store, err := artifact.OpenStore(j.to)
	if err != nil {
		return "", err
	}
	head := filepath.Join(j.to, as+".head")
	if _, err := os.Stat(head); err == nil {
		if err := notAnother(ctx, store, head, m); err != nil {
			return "", err
		}
	}
	if err := store.Publish(ctx, path, as); err != nil {
		return "", withRemedy(err)
	}
	return head, nil
}

// notAnother refuses to replace a head that is neither what served before the run nor
// what it has made.
func notAnother(ctx context.Context, store *artifact.Store, head string, m *retrain.Manifest) error {
	var version uint64
	t, err := store.Fetch(ctx, artifact.FileOrigin(head), artifact.FetchOptions{
		ReadOptions: artifact.ReadOptions{AllowUnsigned: true},
		Accept: func(_ *artifact.Table, a *artifact.Manifest) error {
			version = a.Version
			return nil
		},
	})
	if err != nil {
		return err
	}
	if d := fmt.Sprintf("%x", t.Digest); d != m.Before.Accepted.Digest && d != m.Outcome.Next.Digest {
		return fmt.Errorf("%s is version %d, which this job did not publish: begin a new state from what serves, or publish under another name with --as", head, version)
	}
	return nil
}
