package retrain_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

func TestLock(t *testing.T) {
	f := retrain.Folder(filepath.Join(t.TempDir(), "job"))
	unlock, err := f.Lock(t.Context(), "process 7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Lock(t.Context(), "process 8"); !errors.Is(err, retrain.ErrLocked) || !strings.Contains(err.Error(), "process 7") {
		t.Errorf("while it is held: %v", err)
	}
	unlock()
	unlock, err = f.Lock(t.Context(), "process 8")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestStateAndManifests(t *testing.T) {
	f := retrain.Folder(t.TempDir())
	if _, err := f.Load(); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, retrain.ErrState) {
		t.Errorf("no state: %v", err)
	}
	s := &retrain.State{Name: "shop", Accepted: retrain.Accepted{Run: 2, Version: 9}}
	if err := f.Save(s); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Load(); err != nil || got.Accepted != s.Accepted || got.Name != "shop" {
		t.Errorf("%+v (%v)", got, err)
	}
	for name, content := range map[string]string{"broken": "{", "another version": `{"version": 99}`} {
		write(t, f.Path("state.json"), content)
		if _, err := f.Load(); !errors.Is(err, retrain.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}

	if m, err := f.Latest(); err != nil || m != nil {
		t.Errorf("no runs: %v (%v)", m, err)
	}
	for run := 1; run <= 4; run++ {
		for _, name := range []string{retrain.PreparedDir, retrain.ModelDir} {
			if err := os.MkdirAll(f.Path(f.Run(run), name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		write(t, f.Path(f.Run(run), retrain.BatchFile), "x")
		if run == 4 {
			continue // killed before it had a manifest
		}
		if err := f.SaveManifest(&retrain.Manifest{Run: run}); err != nil {
			t.Fatal(err)
		}
	}
	m, err := f.Latest()
	if err != nil || m.Run != 3 {
		t.Errorf("the last run is %+v (%v)", m, err)
	}
	if runs, err := f.Runs(); err != nil || !slices.Equal(runs, []int{1, 2, 3}) {
		t.Errorf("runs %v (%v)", runs, err)
	}
	if err := f.Prune(1, s.Accepted); err != nil {
		t.Fatal(err)
	}
	for run, kept := range map[int]bool{1: false, 2: true, 3: true} {
		if _, err := os.Stat(f.Path(f.Run(run), retrain.ModelDir)); (err == nil) != kept {
			t.Errorf("the model of run %d: %v", run, err)
		}
		if _, err := os.Stat(f.Path(f.Run(run), retrain.BatchFile)); err != nil {
			t.Errorf("the events of run %d: %v", run, err)
		}
	}
	if _, err := retrain.LoadManifest(f.Path("state.json")); !errors.Is(err, retrain.ErrState) {
		t.Errorf("a manifest that is none: %v", err)
	}

	file, err := data.Describe(f.Path(f.Run(3), retrain.BatchFile))
	if err != nil {
		t.Fatal(err)
	}
	file.Name = filepath.Join(f.Run(3), file.Name)
	if err := f.Check(file); err != nil {
		t.Error(err)
	}
	write(t, f.Path(file.Name), "y")
	if err := f.Check(file); !errors.Is(err, retrain.ErrState) {
		t.Errorf("another content: %v", err)
	}
}

// Every option, and what a process is, makes a run another one.
func TestManifestSame(t *testing.T) {
	m := retrain.Manifest{Run: 3, Now: 5, Wisp: "1", Threads: 2}
	n := m
	n.Run, n.Now = 4, 6
	if !m.Same(&n) {
		t.Error("another time is another run")
	}
	for name, change := range map[string]func(m *retrain.Manifest){
		"seed":    func(m *retrain.Manifest) { m.Options.Seed = 1 },
		"margin":  func(m *retrain.Manifest) { m.Options.Gate.Margin = 1 },
		"program": func(m *retrain.Manifest) { m.Wisp = "2" },
		"threads": func(m *retrain.Manifest) { m.Threads = 1 },
		"before":  func(m *retrain.Manifest) { m.Before.Cursor.Offset = 1 },
	} {
		n := m
		change(&n)
		if m.Same(&n) {
			t.Errorf("another %s is the same run", name)
		}
	}
}
