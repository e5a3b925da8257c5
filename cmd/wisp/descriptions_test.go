package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// teacherFigures evaluates a model and returns the figures of its row.
func teacherFigures(t *testing.T, prepared, dir string) figures {
	t.Helper()
	path := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", prepared, "--model", dir, "--json", path)
	var rows []figures
	if err := json.Unmarshal(get(t, path), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Stage == teacherStage {
			return r
		}
	}
	t.Fatalf("no figures of %s", teacherStage)
	return figures{}
}

// TestDescriptions trains with the users' descriptions, by words and by an
// encoder, and evaluates with them.
func TestDescriptions(t *testing.T) {
	c := madeChain(t)
	for name, args := range map[string][]string{
		"words":   {"--descriptions", "--refit"},
		"encoder": {"--descriptions", "--encoder", tinyEncoder(t, c.prepared), "--id-dropout", "0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "model")
			succeed(t, quickTrain(c.prepared, dir, args...)...)
			with := teacherFigures(t, c.prepared, dir)

			m, trained, err := loadModel(dir)
			if err != nil {
				t.Fatal(err)
			}
			if trained.users == nil || m.Config.Descriptions != trained.users.Shape[1] || !trained.Vectors.Descriptions {
				t.Fatalf("%+v of %+v", m.Config, trained.Vectors)
			}
			// The same model that is told nothing answers otherwise.
			clear(m.Weights[model.UserDescription].Data)
			trained.BestNDCG = 0
			deaf := filepath.Join(t.TempDir(), "deaf")
			if err := makeModelDir(deaf); err != nil {
				t.Fatal(err)
			}
			given, err := loadVectors(dir, trained.FeaturesFile, m.Config)
			if err != nil {
				t.Fatal(err)
			}
			if err := saveModel(deaf, m, given, trained); err != nil {
				t.Fatal(err)
			}
			if without := teacherFigures(t, c.prepared, deaf); without.NDCG == with.NDCG && without.MRR == with.MRR {
				t.Errorf("eval does not read the descriptions: %+v", with)
			}

			artefact := filepath.Join(t.TempDir(), "made.wisp")
			fail(t, []string{"descriptions", "without --descriptions"}, "compress", dir, "--data", c.prepared, "--out", artefact)
		})
	}
}

func TestResumeDescriptions(t *testing.T) {
	c := madeChain(t)
	whole, out := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "model")
	more := []string{"--descriptions", "--id-dropout", "0.2"}
	succeed(t, quickTrain(c.prepared, whole, more...)...)
	wantInterrupted(t, wisp(interruptAt(t, 3), quickTrain(c.prepared, out, more...)...), "--resume")
	fail(t, []string{checkpointFile, "without --resume"}, quickTrain(c.prepared, out, "--resume")...)
	succeed(t, quickTrain(c.prepared, out, append(more, "--resume")...)...)
	if !bytes.Equal(get(t, filepath.Join(out, modelFile)), get(t, filepath.Join(whole, modelFile))) {
		t.Error("the resumed training ended with another model than the unbroken one")
	}
}

func TestDescriptionsRefuses(t *testing.T) {
	prepared := prepareRows(t, shopRows(9, 12))
	fail(t, []string{"no user of", "--users", "without --descriptions"}, quickTrain(prepared, filepath.Join(t.TempDir(), "model"), "--descriptions")...)
	fail(t, []string{"id dropout", "vectors"}, quickTrain(prepared, filepath.Join(t.TempDir(), "model"), "--features", "0", "--id-dropout", "0.2")...)
}
