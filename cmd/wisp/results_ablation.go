package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/results"
)

const ablationText = `
What each part of the teacher adds, leave-one-out with the protocol of quality.md. All
models are trained without the validation events, with the same seeds; adds is the mean
difference of test NDCG@10 between the model with the part and the model without it,
seed by seed, with Student's t.

- text: frozen all-MiniLM-L6-v2 and TF-IDF vectors of the items' texts, over ids alone.
- fine-tuning: the encoder fine-tuned on profiles first (wisp finetune, upper two blocks,
  64 tokens, one seed), over the frozen one.
- joint: the encoder's upper two blocks trained together with the towers
  (wisp train --tune-encoder), over the frozen one.
- event-types: what users did (rating levels), over events that are all alike.
- time-gaps: the time between events, over their order alone.
- descriptions: age, sex and occupation of the user as a sentence, over nothing.
- ensemble: best-teacher over single-teacher of teachers.md, the means of the two.
`

// part is something that a teacher can have or lack.
type part struct {
	name          string
	with, without variant
	// blind takes from the data what the part reads, for the model without it; nil
	// where the variants differ.
	blind func(data.Interaction, int) data.Interaction
}

// ablation measures what each part of the teacher adds.
func (b *bench) ablation(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What each part of the teacher adds", Text: ablationText}
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(encoder); err != nil {
		b.p.line("skipped: no pretrained encoder: %v", err)
		return t, nil
	}
	teachers, err := results.Read(b.docs, "teachers")
	if err != nil {
		return t, err
	}
	for _, set := range b.present(b.sets()...) {
		records, err := b.ablationOf(ctx, set, encoder)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
		prefix := "quality." + set.name + "."
		at := func(name string) int {
			return slices.IndexFunc(teachers, func(r results.Record) bool { return r.Name == prefix+name })
		}
		if single, best := at("single-teacher.ndcg10"), at("best-teacher.ndcg10"); single >= 0 && best >= 0 {
			t.Records = append(t.Records, results.Record{
				Name: prefix + "ablation.ensemble.adds-ndcg10", Value: teachers[best].Value - teachers[single].Value,
				N: teachers[best].N, Note: fmt.Sprintf("%.4f over %.4f", teachers[best].Value, teachers[single].Value),
			})
		}
	}
	return t, nil
}

func (b *bench) ablationOf(ctx context.Context, set set, encoder string) ([]results.Record, error) {
	ds, fingerprint, err := b.prepared(ctx, set)
	if err != nil {
		return nil, err
	}
	tuned, peak, err := b.tunedEncoder(ctx, set, encoder)
	if err != nil {
		return nil, err
	}
	vectors := givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}
	both, finetuned, described := variant{name: "both-", vectors: vectors}, variant{name: "finetuned-", vectors: vectors}, variant{name: "described-", vectors: vectors}
	finetuned.vectors.Encoder = tuned
	described.vectors.Descriptions = true
	joint := variant{name: "joint-", vectors: vectors}
	joint.vectors.Tuned = true
	blinded := func(name string) variant {
		v := both
		v.name = name
		return v
	}
	parts := []part{
		{name: "text", with: both, without: variant{name: "ids-"}},
		{name: "fine-tuning", with: finetuned, without: both},
		{name: "joint", with: joint, without: both},
		{name: "event-types", with: both, without: blinded("no-types-"), blind: func(e data.Interaction, _ int) data.Interaction {
			e.Type = 0
			return e
		}},
		{name: "time-gaps", with: both, without: blinded("no-gaps-"), blind: func(e data.Interaction, at int) data.Interaction {
			e.Time = int64(at)
			return e
		}},
	}
	if slices.ContainsFunc(ds.Users, func(u data.User) bool { return data.UserText(&u) != "" }) {
		parts = append(parts, part{name: "descriptions", with: described, without: both})
	}
	c := contest{bench: b, ds: ds, fingerprint: fingerprint, prefix: "quality." + set.name + ".ablation."}
	for _, p := range parts {
		var with, without, adds []float64
		for seed := 1; seed <= b.seeds; seed++ {
			p.with.seed, p.without.seed = seed, seed
			x, err := c.one(ctx, ds, p.with)
			if err != nil {
				return nil, err
			}
			y, err := c.one(ctx, blindTo(ds, p.blind), p.without)
			if err != nil {
				return nil, err
			}
			with, without, adds = append(with, x), append(without, y), append(adds, x-y)
		}
		if err := c.add(p.name+".with-ndcg10", with, ""); err != nil {
			return nil, err
		}
		if err := c.add(p.name+".without-ndcg10", without, ""); err != nil {
			return nil, err
		}
		if err := c.add(p.name+".adds-ndcg10", adds, ""); err != nil {
			return nil, err
		}
	}
	if peak > 0 {
		c.records = append(c.records, results.Record{
			Name: "memory.finetune." + set.name + ".peak-bytes", Value: peak, N: 1, Unit: "bytes",
			Note: "largest resident set of wisp finetune: all-MiniLM-L6-v2, upper two blocks, 32 pairs of texts of up to 64 tokens",
		})
	}
	return c.records, nil
}

// tunedEncoder returns the folder of the encoder fine-tuned on a set, made unless
// it is there, and the largest memory that took, 0 where the system does not say.
func (b *bench) tunedEncoder(ctx context.Context, set set, encoder string) (dir string, peak float64, err error) {
	dir = filepath.Join(b.work, set.name, "finetuned")
	if _, err := os.Stat(filepath.Join(dir, "finetune.json")); err != nil {
		self, err := os.Executable()
		if err != nil {
			return "", 0, err
		}
		args := []string{
			"finetune", filepath.Join(b.work, set.name, "prepared"), "--encoder", encoder, "--out", dir,
			"--frozen-layers", "4", "--max-tokens", "64",
		}
		if _, err := os.Stat(filepath.Join(dir, "finetune.safetensors")); err == nil {
			args = append(args, "--resume")
		}
		b.p.line("wisp %s", strings.Join(args, " "))
		cmd := exec.CommandContext(ctx, self, args...) // for the sake of its memory
		cmd.Stderr = os.Stderr
		if err := cmd.Run(); err != nil {
			return "", 0, cmp.Or(ctx.Err(), fmt.Errorf("wisp finetune: %w", err))
		}
	}
	figures, err := os.ReadFile(filepath.Join(dir, runFolder, "finetune", "metrics.jsonl"))
	if err != nil {
		return "", 0, err
	}
	for line := range bytes.Lines(figures) {
		var m struct {
			Name  string
			Value float64
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return "", 0, err
		}
		if m.Name == memoryFigure {
			peak = max(peak, m.Value)
		}
	}
	return dir, peak, nil
}

// one trains a variant on ds and returns its NDCG@10 on the test events.
func (c *contest) one(ctx context.Context, ds *data.Dataset, v variant) (float64, error) {
	var err error
	if c.s, err = split(ds, leaveOneOut); err != nil {
		return 0, err
	}
	c.counts = popularity(fittingData(ds, c.s), len(ds.Items))
	m, t, _, err := c.trained(ctx, ds, c.fingerprint, c.s, v)
	if err != nil {
		return 0, err
	}
	return c.test(ctx, teacher(m, t.users).scorer)
}

// blindTo returns ds with every event as blind makes it; nil changes nothing.
func blindTo(ds *data.Dataset, blind func(data.Interaction, int) data.Interaction) *data.Dataset {
	if blind == nil {
		return ds
	}
	other := *ds
	other.Histories = make([][]data.Interaction, len(ds.Histories))
	for u, h := range ds.Histories {
		for at, e := range h {
			other.Histories[u] = append(other.Histories[u], blind(e, at))
		}
	}
	return &other
}
