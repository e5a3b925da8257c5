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
What each part of the teacher adds, leave-one-out with the protocol of quality.md, of games
with that of games.md and one seed. All models are trained without the validation events,
with the same seeds; adds is the mean difference of test NDCG@10 between the model with the
part and the model without it, seed by seed, with Student's t.

- text: frozen all-MiniLM-L6-v2 and TF-IDF vectors of the items' texts, over ids alone; of
  games without TF-IDF, as its teachers are.
- fine-tuning: the encoder fine-tuned on profiles first (wisp finetune, upper two blocks,
  64 tokens, one seed), over the frozen one.
- joint: the encoder's upper two blocks trained together with the towers
  (wisp train --tune-encoder), over the frozen one; ml-100k only, as it takes as long as
  all else.
- event-types: what users did (rating levels), over events that are all alike; games has
  one type.
- time-gaps: the time between events, over their order alone; games has nothing but that.
- descriptions: age, sex and occupation of the user as a sentence, over nothing; ml-100k
  only, as no other set has them.
- ensemble: best-teacher over single-teacher of teachers.md and games.md, the means of the two.
`

// part is something that a teacher can have or lack.
type part struct {
	name          string
	with, without variant
	// blind takes from the data what the part reads, for the model without it; nil
	// where the variants differ.
	blind func(data.Interaction, int) data.Interaction
}

// ablated is a set whose teacher is taken apart.
type ablated struct {
	*bench
	set     set
	encoder string       // folder of the pretrained one
	vectors givenVectors // of the whole teacher
	name    string       // of its variant
	page    string       // that has the set's ensemble
	joint   bool         // whether to train the encoder together with the towers, too
}

// ablation measures what each part of the teacher adds.
func (b *bench) ablation(ctx context.Context) (results.Topic, error) {
	t := results.Topic{Title: "What each part of the teacher adds", Text: ablationText}
	encoder := filepath.Join(b.shared, "models", "all-MiniLM-L6-v2")
	if _, err := os.Stat(encoder); err != nil {
		b.p.line("skipped: no pretrained encoder: %v", err)
		return t, nil
	}
	one := *b
	one.seeds = 1
	var all []ablated
	for i, set := range b.sets() {
		all = append(all, ablated{b, set, encoder, givenVectors{TFIDF: defaultTFIDF, Encoder: encoder}, "both-", "teachers", i == 0})
	}
	all = append(all, ablated{&one, b.gamesSet(), encoder, givenVectors{Encoder: encoder}, "text-", "games", false})
	for _, a := range all {
		if len(b.present(a.set)) == 0 {
			continue
		}
		records, err := a.run(ctx)
		if err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
		if records, err = a.ensembleAdds(); err != nil {
			return t, err
		}
		t.Records = append(t.Records, records...)
	}
	return t, nil
}

// ensembleAdds takes what the ensemble adds from the set's page, where that is there.
func (a *ablated) ensembleAdds() ([]results.Record, error) {
	teachers, err := results.Read(a.docs, a.page)
	if err != nil {
		return nil, err
	}
	prefix := "quality." + a.set.name + "."
	single, ok := recordNamed(teachers, prefix+"single-teacher.ndcg10")
	best, both := recordNamed(teachers, prefix+"best-teacher.ndcg10")
	if !ok || !both {
		return nil, nil
	}
	return []results.Record{{
		Name: prefix + "ablation.ensemble.adds-ndcg10", Value: best.Value - single.Value,
		N: a.seeds, Note: fmt.Sprintf("%.4f over %.4f", best.Value, single.Value),
	}}, nil
}

// parts are those that the set has.
func (a *ablated) parts(ds *data.Dataset, tuned string) []part {
	whole := func(name string) variant { return variant{name: name, vectors: a.vectors} }
	with := whole(a.name)
	finetuned, joint, described := whole("finetuned-"), whole("joint-"), whole("described-")
	finetuned.vectors.Encoder = tuned
	joint.vectors.Tuned = true
	described.vectors.Descriptions = true
	parts := []part{
		{name: "text", with: with, without: variant{name: "ids-"}},
		{name: "fine-tuning", with: finetuned, without: with},
	}
	if a.joint {
		parts = append(parts, part{name: "joint", with: joint, without: with})
	}
	if !ds.OrderOnly { // nor are there types where there are no times
		parts = append(parts,
			part{name: "event-types", with: with, without: whole("no-types-"), blind: func(e data.Interaction, _ int) data.Interaction {
				e.Type = 0
				return e
			}},
			part{name: "time-gaps", with: with, without: whole("no-gaps-"), blind: func(e data.Interaction, at int) data.Interaction {
				e.Time = int64(at)
				return e
			}})
	}
	if slices.ContainsFunc(ds.Users, func(u data.User) bool { return data.UserText(&u) != "" }) {
		parts = append(parts, part{name: "descriptions", with: described, without: with})
	}
	return parts
}

func (a *ablated) run(ctx context.Context) ([]results.Record, error) {
	ds, fingerprint, err := a.prepared(ctx, a.set)
	if err != nil {
		return nil, err
	}
	tuned, peak, err := a.tunedEncoder(ctx, a.set, a.encoder)
	if err != nil {
		return nil, err
	}
	c := contest{bench: a.bench, ds: ds, fingerprint: fingerprint, prefix: "quality." + a.set.name + ".ablation."}
	for _, p := range a.parts(ds, tuned) {
		var with, without, adds []float64
		for seed := 1; seed <= a.seeds; seed++ {
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
		for _, f := range []struct {
			name   string
			values []float64
		}{{"with", with}, {"without", without}, {"adds", adds}} {
			if err := c.add(p.name+"."+f.name+"-ndcg10", f.values, ""); err != nil {
				return nil, err
			}
		}
	}
	if peak > 0 {
		c.records = append(c.records, results.Record{
			Name: "memory.finetune." + a.set.name + ".peak-bytes", Value: peak, N: 1, Unit: "bytes",
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
