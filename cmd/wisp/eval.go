package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

func newEval() *cobra.Command {
	var dataDir, ensembleDir, modelDir, crossDir, artefact, protocol, jsonFile string
	c := &cobra.Command{
		Use:   "eval",
		Short: "Measure a model and an artefact beside the baselines",
		Long: `Ranks the whole catalogue for each test case, items of the history left out, and
prints NDCG@10, hit rate@10, MRR and coverage with 95 % bootstrap intervals over
cases, the size at rest, and the median time of one request.

Baselines are fitted on everything before the test events; the rank of a target is
the number of items that score strictly higher.`,
		Example: `  wisp eval --data prepared
  wisp eval --data prepared --ensemble teacher --model student
  wisp eval --data prepared --model model --artefact shop.wisp --json figures.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if jsonFile != "" {
				if err := checkOutput(jsonFile); err != nil {
					return err
				}
			}
			ds, fingerprint, err := loadData(dataDir)
			if err != nil {
				return err
			}
			s, err := split(ds, protocol)
			if err != nil {
				return err
			}
			var chain, voting []stage
			if ensembleDir != "" {
				st, err := ensembleStageOf(ensembleDir, ds, fingerprint, s)
				if err != nil {
					return err
				}
				voting = append(voting, st)
			}
			if modelDir != "" {
				m, t, err := loadModel(modelDir)
				if err != nil {
					return err
				}
				if err := t.fits(m, ds, fingerprint); err != nil {
					return err
				}
				if t.Protocol != protocol {
					return fmt.Errorf("the model was trained for the split %q: give --split %s", t.Protocol, t.Protocol)
				}
				chain = append(chain, teacher(m, t.users))
			}
			if crossDir != "" {
				if modelDir == "" {
					return errors.New("--cross needs a model that ranks all items first; give one with --model")
				}
				s, err := reranked(crossDir, chain[0].scorer, ds, fingerprint)
				if err != nil {
					return err
				}
				chain = append(chain, s)
			}
			if artefact != "" {
				stages, r, err := artefactStages(cmd.Context(), artefact, ds)
				if err != nil {
					return err
				}
				defer func() { _ = r.Close(context.WithoutCancel(cmd.Context())) }()
				chain = append(chain, stages...)
			}
			p := newProgress(cmd)
			defer p.done()
			rows, err := evaluate(cmd.Context(), ds, s, append(voting, chain...), p)
			if err != nil {
				return err
			}
			p.done()
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, %d cases, %d items\n", ds.Name, s.Protocol, len(s.Test), len(ds.Items))
			if err := printRows(cmd.OutOrStdout(), rows); err != nil {
				return err
			}
			if jsonFile != "" {
				return writeRows(jsonFile, rows)
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data", "", "prepared data")
	f.StringVar(&ensembleDir, "ensemble", "", "folder of an ensemble")
	f.StringVar(&modelDir, "model", "", "folder of a trained model")
	f.StringVar(&crossDir, "cross", "", "folder of a cross-encoder that puts the best items of --model into a new order, about a second a case")
	f.StringVar(&artefact, "artefact", "", "a .wisp file")
	f.StringVar(&protocol, "split", leaveOneOut, "leave-one-out or time")
	f.StringVar(&jsonFile, "json", "", "also write the figures to this file")
	required(c, "data")
	return c
}

// artefactStages opens an artefact twice: its image in plain Go, and the whole
// of it in sandboxes.
func artefactStages(ctx context.Context, path string, ds *data.Dataset) ([]stage, *edge.Runtime, error) {
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return nil, nil, withRemedy(err)
	}
	size, err := fileSize(path)
	if err != nil {
		return nil, nil, err
	}
	image, err := a.Image()
	if err != nil {
		return nil, nil, err
	}
	plain, err := quantize.NewScorer(int8Stage, image.Bytes())
	if err != nil {
		return nil, nil, err
	}
	plain = plain.WithDescriptions(descriptions(a.Manifest, ds))
	r, err := edge.New(ctx, a, edge.Options{AllowUnsigned: true})
	if err != nil {
		return nil, nil, err
	}
	s, err := newSandbox(r, ds)
	if err != nil {
		return nil, nil, errors.Join(err, r.Close(ctx))
	}
	return []stage{
		{scorer: plain, bytes: int64(len(image.Bytes())), request: top10(plain, len(ds.Items))},
		{scorer: s, bytes: size, request: s.recommend},
	}, r, nil
}

// built is a model from end to end.
type built struct {
	stages  []stage // teacher, int8 in plain Go, int8 in sandboxes
	path    string  // of the artefact
	layers  []quantize.LayerError
	runtime *edge.Runtime // of the sandboxes
	close   func()
}

// build compresses a model to path and opens what came of it, to be closed.
func build(ctx context.Context, m *model.Model, t training, ds *data.Dataset, s *data.Split, o quantize.BuildOptions, path string) (built, error) {
	a, layers, err := compress(ctx, m, t, ds, s, o)
	if err != nil {
		return built{}, err
	}
	if err := artifact.WriteFile(path, a, artifact.WriteOptions{}); err != nil {
		return built{}, err
	}
	int8s, r, err := artefactStages(ctx, path, ds)
	if err != nil {
		return built{}, err
	}
	return built{
		stages: append([]stage{teacher(m, t.users)}, int8s...), path: path, layers: layers, runtime: r,
		close: func() { _ = r.Close(context.WithoutCancel(ctx)) },
	}, nil
}

// evaluate measures the baselines and the stages of a chain on the test cases.
func evaluate(ctx context.Context, ds *data.Dataset, s *data.Split, chain []stage, p *progress) ([]row, error) {
	if len(s.Test) == 0 {
		return nil, fmt.Errorf("no test cases: no user has %d events", minEvents)
	}
	histories := fittingData(ds, s)
	if p != nil {
		p.stage("fitting baselines", 0, 0)
	}
	stages, err := baselines(ds, histories)
	if err != nil {
		return nil, err
	}
	counts := popularity(histories, len(ds.Items))
	var rows []row
	for _, st := range append(stages, chain...) {
		r, err := measure(ctx, st, len(ds.Items), s.Test, counts, p)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func printRows(out io.Writer, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "stage\tNDCG@10\t\tHR@10\t\tMRR\t\tcoverage\t\tbytes\tp50 µs\t")
	cell := func(i eval.Interval) string { return fmt.Sprintf("%.4f\t%.3f-%.3f", i.Value, i.Low, i.High) }
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t\n", r.scorer.Name(), cell(r.ndcg), cell(r.hr), cell(r.mrr), cell(r.covered), r.bytes, r.p50.Microseconds())
	}
	return w.Flush()
}

// writeRows writes the rows as JSON, ties counted both ways.
func writeRows(path string, rows []row) error {
	type out struct {
		Stage       string        `json:"stage"`
		NDCG        eval.Interval `json:"ndcg10"`
		HR          eval.Interval `json:"hr10"`
		MRR         eval.Interval `json:"mrr"`
		Coverage    eval.Interval `json:"coverage"`
		Pessimistic eval.Accuracy `json:"ties_against"`
		Novelty     float64       `json:"novelty_bits"`
		Gini        float64       `json:"gini"`
		Bytes       int64         `json:"bytes"`
		P50         float64       `json:"p50_us"`
	}
	var all []out
	for _, r := range rows {
		all = append(all, out{
			r.scorer.Name(), r.ndcg, r.hr, r.mrr, r.covered, r.result.Pessimistic, r.result.Novelty, r.result.Gini,
			r.bytes, float64(r.p50.Nanoseconds()) / 1000,
		})
	}
	b, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return atomicfile.Write(path, append(b, '\n'))
}
