package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// Files of an ensemble's folder: what it is, and a folder for each network.
const (
	ensembleFile   = "ensemble.json"
	ensembleMember = "member-%d"
)

// ensembleStage is the name of an ensemble in tables.
const ensembleStage = "ensemble"

// weighed is the largest number of validation cases that ensembles are weighed on.
const weighed = 5000

func newEnsemble() *cobra.Command {
	var r ensembleRun
	c := &cobra.Command{
		Use:   "ensemble MODEL...",
		Short: "Let several models and counted scorers vote",
		Long: `Adds up the scores of models that were trained on the same data, and of scorers that
are counted and not trained: recency-weighted EASE, recency-weighted ItemKNN, and Markov.
Scores are standardised; each voter's weight is the one that is best on validation, and
whoever does not help has none and is left out. What the sum is divided by to be the
logarithm of a probability is fitted there too.

OUT has the models that vote, the weights, and how the others are counted again, which
takes seconds. wisp distil makes one small model of it, and wisp eval measures it.

Models that were trained again with the validation events (wisp train --refit) have seen
what weights are chosen on. --weights takes them from the ensemble of the same models
before that, named in the same order.`,
		Example: `  wisp ensemble words ids both --data prepared --out teacher
  wisp ensemble words-refit both-refit --data prepared --out teacher-refit --weights teacher`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.models = args
			e, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			for _, m := range e.Members {
				fmt.Fprintf(out, "%8.2f  %s\n", m.Weight, m.Name)
			}
			if !e.Refit {
				fmt.Fprintf(out, "%s: validation NDCG@10 %.4f, temperature %.3f\n", r.out, e.BestNDCG, e.Temperature)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.data, "data", "", "the prepared data that the models were trained on")
	f.StringVar(&r.out, "out", "", "folder for the ensemble")
	f.StringVar(&r.weights, "weights", "", "folder of an ensemble whose weights these models take over")
	f.StringSliceVar(&r.companions, "with", nil, "counted scorers that may vote (default: all that the number of items allows)")
	required(c, "data", "out")
	return c
}

// ensemble is a teacher made of several.
type ensemble struct {
	Data        string   `json:"data"`     // name of the data set
	Manifest    string   `json:"manifest"` // digest of its manifest's files
	Protocol    string   `json:"protocol"` // of the split
	Refit       bool     `json:"refit"`    // the networks know the validation events
	Members     []member `json:"members"`
	Temperature float64  `json:"temperature"`
	BestNDCG    float64  `json:"best_ndcg"` // on validation, before any training with it

	networks []voter                                    // of the members with a folder, in order
	encoder  int64                                      // bytes of the text encoder that made their vectors, where it counts
	asked    map[quantize.LessonOptions]hostgpu.Lessons // what was asked before
}

// voter is a trained member.
type voter struct {
	m *model.Model
	t training
}

// member is a voter with a weight above 0.
type member struct {
	Name   string  `json:"name"`
	Weight float64 `json:"weight"`
	// Folder has the network and Digest identifies its weights; a member without is
	// counted from the data.
	Folder string `json:"folder,omitempty"`
	Digest string `json:"digest,omitempty"`
}

// counts says that some members are counted from data.
func (e *ensemble) counts() bool {
	return slices.ContainsFunc(e.Members, func(m member) bool { return m.Folder == "" })
}

// has says that the member with that folder votes.
func (e *ensemble) has(folder string) bool {
	return slices.ContainsFunc(e.Members, func(m member) bool { return m.Folder == folder })
}

// fit returns the ensemble with what is counted counted from histories, and its size.
func (e *ensemble) fit(histories [][]data.Interaction, items int) (*eval.Ensemble, int64, error) {
	var voters []eval.Scorer
	var weights []float64
	bytes, networks := e.encoder, e.networks
	for _, m := range e.Members {
		weights = append(weights, m.Weight)
		if m.Folder != "" {
			st := teacher(networks[0].m, networks[0].t.users)
			voters, bytes, networks = append(voters, st.scorer), bytes+st.bytes, networks[1:]
			continue
		}
		c, err := companion(m.Name, histories, items)
		if err != nil {
			return nil, 0, err
		}
		voters, bytes = append(voters, c), bytes+c.Bytes()
	}
	s, err := eval.NewEnsemble(ensembleStage, voters, weights)
	return s, bytes, err
}

// teacher is the ensemble as whom a student learns from.
func (e *ensemble) teacher(items int) quantize.Teacher {
	return quantize.Teacher{
		Fit: func(histories [][]data.Interaction) (eval.Sequencer, error) {
			s, _, err := e.fit(histories, items)
			return s, err
		},
		Counted: e.counts(), Temperature: e.Temperature,
	}
}

// start returns the weights of the member of most weight that has the shape of a student
// trained with o and the same vectors, nil where there is none.
func (e *ensemble) start(o hostgpu.TrainOptions, v givenVectors) model.Weights {
	var best model.Weights
	most, i := 0.0, 0
	for _, m := range e.Members {
		if m.Folder == "" {
			continue
		}
		n := e.networks[i]
		i++
		c := n.m.Config
		if n.t.Vectors == v && !v.Tuned && c.Dim == o.Dim && c.Layers == o.Layers && c.Heads == o.Heads && c.FFN == o.FFN &&
			c.Window == cmp.Or(o.Window, defaultWindow) && m.Weight > most {
			best, most = n.m.Weights, m.Weight
		}
	}
	return best
}

// fits checks that an ensemble is of models trained on ds.
func (e *ensemble) fits(ds *data.Dataset, fingerprint string) error {
	if e.Manifest != fingerprint {
		return fmt.Errorf("the ensemble was made on %q, not on this preparation of %q; give the data it was made on, or make it again with wisp ensemble", e.Data, ds.Name)
	}
	return nil
}

// ensembleStageOf is the ensemble in dir as a row of a table. Like the baselines, what
// is counted is counted from everything before the test events of s.
func ensembleStageOf(dir string, ds *data.Dataset, fingerprint string, s *data.Split) (stage, error) {
	e, err := loadEnsemble(dir)
	if err != nil {
		return stage{}, err
	}
	if err := e.fits(ds, fingerprint); err != nil {
		return stage{}, err
	}
	if e.Protocol != s.Protocol {
		return stage{}, fmt.Errorf("the ensemble is of models for the split %q: give --split %s", e.Protocol, e.Protocol)
	}
	voters, bytes, err := e.fit(fittingData(ds, s), len(ds.Items))
	return stage{scorer: voters, bytes: bytes, request: top10(voters, len(ds.Items))}, err
}

// loadEnsemble reads what ensembleRun wrote.
func loadEnsemble(dir string) (*ensemble, error) {
	path := filepath.Join(dir, ensembleFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s holds no ensemble: make one with wisp ensemble (%w)", dir, err)
	}
	if err != nil {
		return nil, err
	}
	var e ensemble
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("%s: %w; make it again with wisp ensemble", path, err)
	}
	if !(e.Temperature > 0) || len(e.Members) == 0 {
		return nil, fmt.Errorf("%s has %d members and temperature %v; make it again with wisp ensemble", path, len(e.Members), e.Temperature)
	}
	for _, m := range e.Members {
		if !(m.Weight > 0) {
			return nil, fmt.Errorf("%s: member %q has weight %v, must be above 0; make it again with wisp ensemble", path, m.Name, m.Weight)
		}
		if m.Folder == "" {
			continue
		}
		folder := filepath.Join(dir, filepath.Base(m.Folder))
		digest, err := fileDigest(filepath.Join(folder, modelFile))
		if err != nil {
			return nil, fmt.Errorf("%w; make it again with wisp ensemble", err)
		}
		if digest != m.Digest {
			return nil, fmt.Errorf("%s is not the model that voted as %q; make it again with wisp ensemble", folder, m.Name)
		}
		network, t, err := loadModel(folder)
		if err != nil {
			return nil, err
		}
		e.networks = append(e.networks, voter{network, t})
	}
	return &e, nil
}

// ensembleRun makes an ensemble.
type ensembleRun struct {
	models             []string
	data, out, weights string
	companions         []string
}

func (r *ensembleRun) run(ctx context.Context, p *progress) (*ensemble, error) {
	defer p.done()
	ds, fingerprint, err := loadData(r.data)
	if err != nil {
		return nil, err
	}
	if err := makeEnsembleDir(r.out); err != nil {
		return nil, err
	}
	var e ensemble
	var voters []voter
	for i, dir := range r.models {
		m, t, err := loadModel(dir)
		if err != nil {
			return nil, err
		}
		if err := t.fits(m, ds, fingerprint); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		if i > 0 && (t.Protocol != e.Protocol || t.Refit != e.Refit) {
			return nil, fmt.Errorf("%s was trained for another split than %s, or not both with the validation events; give models of one kind", dir, r.models[0])
		}
		e.Data, e.Manifest, e.Protocol, e.Refit = ds.Name, fingerprint, t.Protocol, t.Refit
		voters = append(voters, voter{m, t})
	}
	s, err := split(ds, e.Protocol)
	if err != nil {
		return nil, err
	}
	if (r.weights != "") != e.Refit {
		if e.Refit {
			return nil, errors.New("the models know the validation events, on which weights are chosen: give with --weights the ensemble of the same models before --refit")
		}
		return nil, errors.New("--weights is for models that know the validation events (wisp train --refit)")
	}
	if e.Refit {
		err = r.takeOver(&e, voters)
	} else {
		err = e.weigh(ctx, r.models, voters, r.companions, ds, s, p)
	}
	if err != nil {
		return nil, err
	}
	return &e, r.save(&e)
}

// weigh chooses the members and their weights, and the temperature, on validation: among
// networks, by the names of their folders, and companions by name, nil for all that the
// number of items allows.
func (e *ensemble) weigh(ctx context.Context, folders []string, networks []voter, companions []string, ds *data.Dataset, s *data.Split, p *progress) error {
	if len(s.Valid) == 0 {
		return fmt.Errorf("no validation cases: no user has %d events", minEvents)
	}
	items := len(ds.Items)
	if companions == nil {
		companions = neighbours()
		if items <= baselineMatrix {
			companions = append([]string{companionKinds[0].name}, companions...)
		}
	}
	var voters []eval.Scorer
	for _, n := range networks {
		voters = append(voters, teacher(n.m, n.t.users).scorer)
	}
	for _, name := range companions {
		p.stage("counting "+name, 0, 0)
		c, err := companion(name, s.Train, items)
		if err != nil {
			return err
		}
		voters = append(voters, c)
	}
	p.stage("weighing", 0, 0)
	cases := spread(s.Valid, weighed)
	fitted, err := eval.FitEnsemble(ctx, ensembleStage, voters, items, cases)
	if err != nil {
		return err
	}
	if e.Temperature, err = eval.FitTemperature(ctx, fitted, items, cases); err != nil {
		return err
	}
	result, err := eval.Run(ctx, fitted, items, s.Valid, make([]int64, items), eval.Options{}, nil)
	if err != nil {
		return err
	}
	e.BestNDCG, e.Members, e.networks = result.Accuracy.NDCG, nil, nil
	for i, w := range fitted.Weights() {
		if w == 0 {
			continue
		}
		m := member{Weight: w}
		if i < len(networks) {
			m.Name, m.Folder = filepath.Base(filepath.Clean(folders[i])), fmt.Sprintf(ensembleMember, i+1)
			e.networks = append(e.networks, networks[i])
		} else {
			m.Name = companions[i-len(networks)]
		}
		e.Members = append(e.Members, m)
	}
	return nil
}

// baselineMatrix is the number of items up to which a matrix of all by all is made
// without being asked for.
const baselineMatrix = 20000

// takeOver gives the models, by their order, the weights of another ensemble.
func (r *ensembleRun) takeOver(e *ensemble, voters []voter) error {
	from, err := loadEnsemble(r.weights)
	if err != nil {
		return err
	}
	if from.Refit || from.Manifest != e.Manifest || from.Protocol != e.Protocol {
		return fmt.Errorf("%s was weighed on other data, or not at all: give the ensemble of the same models before --refit", r.weights)
	}
	e.Temperature, e.BestNDCG = from.Temperature, from.BestNDCG
	var names []string
	for _, m := range from.Members {
		if m.Folder != "" {
			names = append(names, m.Name)
		}
	}
	if len(names) != len(r.models) {
		return fmt.Errorf("%d models for the %d that vote in %s: give %s, trained again, in this order", len(r.models), len(names), r.weights, strings.Join(names, " "))
	}
	i := 0
	for _, m := range from.Members {
		if m.Folder != "" {
			if from.networks[i].t.Vectors != voters[i].t.Vectors {
				return fmt.Errorf("%s was given other vectors than %q of %s: give %s, trained again, in this order", r.models[i], m.Name, r.weights, strings.Join(names, " "))
			}
			m.Folder = fmt.Sprintf(ensembleMember, i+1)
			i++
		}
		e.Members = append(e.Members, m)
	}
	return nil
}

// makeEnsembleDir makes a folder for an ensemble, unless it is there and empty or
// holds one.
func makeEnsembleDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("%w; name another folder", err)
	}
	ours := func(e fs.DirEntry) bool { return e.Name() == ensembleFile }
	if len(entries) > 0 && !slices.ContainsFunc(entries, ours) {
		return fmt.Errorf("%s holds something else than an ensemble (%s); name another folder", dir, entries[0].Name())
	}
	return nil
}

// save writes the ensemble, the file that names the others last.
func (r *ensembleRun) save(e *ensemble) error {
	if err := os.Remove(filepath.Join(r.out, ensembleFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := range e.Members {
		m := &e.Members[i]
		if m.Folder == "" {
			continue
		}
		var at int
		if _, err := fmt.Sscanf(m.Folder, ensembleMember, &at); err != nil {
			return fmt.Errorf("save ensemble: %w", err)
		}
		network, t, err := loadModel(r.models[at-1])
		if err != nil {
			return err
		}
		dir := filepath.Join(r.out, m.Folder)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := saveModel(dir, network, hostgpu.Vectors{Items: t.items, Users: t.users}, t); err != nil {
			return err
		}
		if m.Digest, err = fileDigest(filepath.Join(dir, modelFile)); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("save ensemble: %w", err)
	}
	return atomicfile.Write(filepath.Join(r.out, ensembleFile), append(b, '\n'))
}
