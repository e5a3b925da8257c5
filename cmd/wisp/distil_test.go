package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ensembleOf makes an ensemble of the model of the chain and of another.
func ensembleOf(t *testing.T, c chain) string {
	t.Helper()
	other, out := filepath.Join(t.TempDir(), "other"), filepath.Join(t.TempDir(), "teacher")
	succeed(t, append([]string{"train", c.prepared, "--out", other}, append(trainArgs, "--features", "0", "--seed", "2")...)...)
	succeed(t, "ensemble", c.model, other, "--data", c.prepared, "--out", out)
	return out
}

func quickStudent(teacher, prepared, out string, more ...string) []string {
	return append([]string{
		"distil", teacher, "--data", prepared, "--out", out, "--epochs", "3", "--dim", "16", "--layers", "1", "--window", "20", "--lr", "0.01", "--features", "8",
	}, more...)
}

// TestDistil goes from models to an ensemble to a student to an artefact.
func TestDistil(t *testing.T) {
	c := madeChain(t)
	teacher, student := ensembleOf(t, c), filepath.Join(t.TempDir(), "student")
	out := succeed(t, quickStudent(teacher, c.prepared, student)...)
	if !strings.Contains(out, "of the teacher's") {
		t.Errorf("distil says %q", out)
	}
	_, tr, err := loadModel(student)
	if err != nil {
		t.Fatal(err)
	}
	if tr.Distilled == nil || tr.Distilled.Lessons.Top != 128 || len(tr.Distilled.Members) == 0 || tr.BestNDCG <= 0 {
		t.Errorf("the student says of its training %+v, %+v", tr, tr.Distilled)
	}
	artefact := filepath.Join(t.TempDir(), "student.wisp")
	succeed(t, "compress", student, "--data", c.prepared, "--out", artefact)
	table := succeed(t, "eval", "--data", c.prepared, "--ensemble", teacher, "--model", student, "--artefact", artefact)
	for _, row := range []string{ensembleStage, teacherStage, sandboxStage} {
		if !strings.Contains(table, " "+row+" ") {
			t.Errorf("no row %q in\n%s", row, table)
		}
	}

	t.Run("resume", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "student")
		o := wisp(interruptAt(t, 1), quickStudent(teacher, c.prepared, out)...) // while the teacher is asked
		if o.code != exitInterrupted {
			t.Fatalf("exit %d: %s", o.code, o.stderr)
		}
		args := quickStudent(teacher, c.prepared, out)
		ctx, cancel := context.WithCancel(t.Context())
		var stderr bytes.Buffer
		code := run(ctx, args, io.Discard, writerFunc(func(b []byte) {
			stderr.Write(b)
			if bytes.HasPrefix(b, []byte("epoch   1 ")) {
				cancel()
			}
		}))
		wantInterrupted(t, outcome{code: code, stderr: stderr.String()}, filepath.Join(out, checkpointFile), "--resume")
		succeed(t, append(args, "--resume")...)
		if !bytes.Equal(get(t, filepath.Join(out, modelFile)), get(t, filepath.Join(student, modelFile))) {
			t.Error("the resumed distillation ended with another model than the unbroken one")
		}
	})
	t.Run("refuses", func(t *testing.T) {
		fail(t, []string{"wisp ensemble"}, quickStudent(c.model, c.prepared, filepath.Join(t.TempDir(), "x"))...)
		fail(t, []string{"nano, micro or small"}, quickStudent(teacher, c.prepared, filepath.Join(t.TempDir(), "x"), "--size", "big")...)
		fail(t, []string{"--refit"}, quickStudent(teacher, c.prepared, filepath.Join(t.TempDir(), "x"), "--refit", teacher)...)
		fail(t, []string{"preparation"}, quickStudent(teacher, prepareRows(t, shopRows(9, 12)), filepath.Join(t.TempDir(), "x"))...)
		fail(t, []string{"one fold"}, "distil", teacher, "--data", c.prepared, "--out", filepath.Join(t.TempDir(), "x"), "--folds", "1")
	})
}

// TestDistilRefit has a student learn in the end from those who know the validation
// events.
func TestDistilRefit(t *testing.T) {
	c := madeChain(t)
	again, out := filepath.Join(t.TempDir(), "again"), t.TempDir()
	before, after := filepath.Join(out, "before"), filepath.Join(out, "after")
	succeed(t, "ensemble", c.model, "--data", c.prepared, "--out", before, "--with", "markov")
	succeed(t, append([]string{"train", c.prepared, "--out", again, "--refit"}, trainArgs...)...)
	fail(t, []string{"--weights"}, "ensemble", again, "--data", c.prepared, "--out", after)
	fail(t, []string{"--weights"}, "ensemble", c.model, "--data", c.prepared, "--out", after, "--weights", before)
	fail(t, []string{"in this order"}, "ensemble", again, again, "--data", c.prepared, "--out", after, "--weights", before)
	succeed(t, "ensemble", again, "--data", c.prepared, "--out", after, "--weights", before)
	fail(t, []string{"with --refit"}, quickStudent(after, c.prepared, filepath.Join(out, "x"))...)
	student := filepath.Join(out, "student")
	succeed(t, quickStudent(before, c.prepared, student, "--refit", after)...)
	if _, tr, err := loadModel(student); err != nil || !tr.Refit {
		t.Errorf("refit %v, %v", tr.Refit, err)
	}
}

// TestEnsembleRefuses reads ensembles that are not whole.
func TestEnsembleRefuses(t *testing.T) {
	c := madeChain(t)
	dir := filepath.Join(t.TempDir(), "teacher")
	succeed(t, "ensemble", c.model, "--data", c.prepared, "--out", dir, "--with", "markov,itemknn-recency")
	file := filepath.Join(dir, ensembleFile)
	sound := get(t, file)
	eval := []string{"eval", "--data", c.prepared, "--ensemble", dir}
	succeed(t, eval...)

	change := func(f func(e *ensemble)) {
		var e ensemble
		if err := json.Unmarshal(sound, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		put(t, file, b)
	}
	change(func(e *ensemble) { e.Members[0].Weight = -1 })
	fail(t, []string{file, "weight -1"}, eval...)
	change(func(e *ensemble) { e.Members[len(e.Members)-1] = member{Name: "oracle", Weight: 1} })
	fail(t, []string{"oracle", "markov"}, eval...)
	change(func(e *ensemble) { e.Temperature = 0 })
	fail(t, []string{file, "temperature"}, eval...)
	put(t, file, sound[:len(sound)/2])
	fail(t, []string{file}, eval...)
	put(t, file, sound)
	model := filepath.Join(dir, "member-1", modelFile)
	put(t, model, get(t, filepath.Join(c.model, modelFile))[:100])
	fail(t, []string{"is not the model"}, eval...)
	if err := os.Remove(model); err != nil {
		t.Fatal(err)
	}
	fail(t, []string{"wisp ensemble"}, eval...)
	fail(t, []string{"unknown", "markov"}, "ensemble", c.model, "--data", c.prepared, "--out", filepath.Join(t.TempDir(), "x"), "--with", "oracle")
	fail(t, []string{"something else"}, "ensemble", c.model, "--data", c.prepared, "--out", c.prepared)
}
