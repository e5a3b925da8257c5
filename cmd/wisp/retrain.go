package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/retrain"
)

// errRefused reports a candidate that was not published.
var errRefused = errors.New("nothing was published")

func newRetrain() *cobra.Command {
	var j retrainJob
	var mapping, replay, out string
	var late time.Duration
	c := &cobra.Command{
		Use:   "retrain",
		Short: "Go on with what serves on new events, and publish it if it is not worse",
		Long: `One command for a scheduler (examples/retrain has a crontab line, a systemd timer and a
Kubernetes CronJob). The first run begins from a model, its data and its artefact, which
are copied into --state; --model, --data, --known and --artefact are not looked at again.

A run takes what --events has beyond the last run: new files of a folder, which must not
change once they are there (write them under a name that ends in .tmp, and rename), or the
new lines of one file of JSON lines that grows. It adds them to what is known, goes on with
the training of the model on all but the newest of them and on a sample of old ones,
compresses, and compares the candidate with what serves on the newest: the first event of each
user. The candidate is signed and published if the 95 % interval of the paired difference
of NDCG@10 does not reach below --margin, among all users and among those known before.
Otherwise the new events are seen again by the next run, together with later ones.

With --adapter-rank, only what adapters change is another: the matrices of the towers by
changes of that rank, merged into them, and the learnt vectors of items that had no events
before. Less can be learnt, and forgotten.

Nothing is learnt from events that cannot be trusted: too many broken rows, unknown items or
wrong times, more events in a day than people ever made, too many by newcomers or by users
faster than a person. --discard leaves the new events out for good.

A run that was killed is gone on with from its last checkpoint, to the same weights. Each
has a manifest in --state; --replay does it again from that, without publishing, and compares
the bytes.

Exit codes: 0 published, or nothing new; 4 not published, as it may be worse; 5 unusable
events; 6 another job is running; 130 interrupted; 1 anything else.`,
		Example: `  wisp retrain --state job --events incoming --model model --data prepared --artefact shop.wisp --key shop.key --to /srv/models --as shop
  wisp retrain --state job --events events.jsonl --items items.jsonl --key shop.key --out shop.wisp --config retrain.yaml
  wisp retrain --state job --events incoming --discard
  wisp retrain --replay job/runs/000007/manifest.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j.p, j.now = newProgress(cmd), time.Now()
			defer j.p.done()
			if replay != "" {
				return replayRun(cmd.Context(), cmd.OutOrStdout(), replay, out, j.key, j.p)
			}
			j.options.Limits.Late, j.out = int64(late/time.Second), out
			if mapping != "" {
				m, err := data.LoadMapping(mapping)
				if err != nil {
					return err
				}
				j.source.Mapping = m
			}
			said, err := j.run(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), said)
			return nil
		},
	}
	f, o := c.Flags(), &j.options
	f.StringVar((*string)(&j.dir), "state", "", "folder in which the job remembers")
	f.StringVar(&j.source.Events, "events", "", "folder that files of events come to, or one file of JSON lines that grows")
	f.StringVar(&j.source.Format, "format", "jsonl", fmt.Sprintf("format of the events, items and users: one of %q", data.Formats()))
	f.StringVar(&j.source.Encoding, "encoding", "utf8", "utf8 or latin1")
	f.StringVar(&mapping, "mapping", "", "JSON file that names the columns")
	f.StringVar(&j.source.Items, "items", "", "file of items, new and changed ones at least (optional)")
	f.StringVar(&j.source.Users, "users", "", "file of users (optional)")
	f.StringVar(&j.model, "model", "", "folder of the model to begin from")
	f.StringVar(&j.data, "data", "", "the prepared data that it was trained on")
	f.StringVar(&j.known, "known", "", "the events that --data was prepared from, in --format, where it has not all of them, as after --core (default: those of --data)")
	f.StringVar(&j.artefact, "artefact", "", "the artefact that serves in the beginning")
	f.StringVar(&o.Encoder, "encoder", "", "folder of the text encoder, where the model has one and it is not where it was")
	f.StringVar(&j.key, "key", "", "private key to sign with")
	f.StringVar(&j.to, "to", "", "publish into this folder, as wisp publish does")
	f.StringVar(&j.as, "as", "", "name of the head there (default: that of the model)")
	f.StringVar(&out, "out", "", "also put the published artefact into this file; with --replay, the folder for what is made again")
	f.BoolVar(&j.discard, "discard", false, "leave the new events out for good, and train nothing")
	f.StringVar(&replay, "replay", "", "do the run of this `manifest` again and compare")
	f.IntVar(&j.keep, "keep", 8, "runs of which models and data are kept; manifests and events are kept of all")
	f.Uint64Var(&o.Seed, "seed", 1, "seed of all chance")
	f.IntVar(&o.Epochs, "epochs", 0, "epochs over the new events and the old ones with them (default 3)")
	f.Float64Var(&o.LearningRate, "lr", 0, "learning rate (default 0.003, of adapters 0.01)")
	f.IntVar(&o.AdapterRank, "adapter-rank", 0, "train adapters of this rank in place of the matrices, the embeddings of items that nothing was learnt of, and nothing else (default 0: all is trained)")
	f.Float64Var(&o.Rehearsal, "rehearsal", 0, "old events that are learnt from again for each new one (default 1, negative for none)")
	f.Float64Var(&o.Holdout, "holdout", 0, "share of the new events, the newest, that the candidate is compared on (default 0.2)")
	f.IntVar(&o.SaveEvery, "save-every", 0, "steps between checkpoints; one is also made after each epoch (default 200)")
	f.StringVar(&o.Student, "distil", "", "publish a student of this `size` that learns from the model: nano, micro or small (default: the model itself)")
	f.IntVar(&o.ItemBits, "item-bits", 0, "bits of a value of an item's vector, 3 to 8, as wisp compress has it (default 8)")
	f.IntVar(&o.BotPerMinute, "bot-per-minute", 0, "drop users with more events a minute than this (default 60, negative: never)")
	f.Float64Var(&o.Gate.Margin, "margin", 0, "NDCG@10 by which the candidate may be worse (default 0.01)")
	f.IntVar(&o.Gate.MinCases, "min-cases", 0, "cases that are needed to tell (default 50)")
	f.Float64Var(&o.Gate.MaxDecay, "max-decay", 0, "share of its NDCG@10 that what serves may have lost before the events are doubted (default 0.6, negative: any)")
	f.Float64Var(&o.Limits.MaxBroken, "max-broken", 0, "share of new rows that may be unusable (default 0.1, negative: any)")
	f.Float64Var(&o.Limits.MaxUnknown, "max-unknown", 0, "share of new events that may be of items that nobody knows (default 0.5, negative: any)")
	f.Float64Var(&o.Limits.MaxBots, "max-bots", 0, "share of new events that may be by users faster than a person (default 0.2, negative: any)")
	f.Float64Var(&o.Limits.MaxNewcomers, "max-newcomers", 0, "share of new events that may be by users who had none before (default 0.6, negative: any)")
	f.Float64Var(&o.Limits.MaxBurst, "max-burst", 0, "times the busiest day until now that a new day may have (default 4, negative: any)")
	f.DurationVar(&late, "late", 0, "how long before the last event known an event may still come in (default 168h)")
	return c
}

// retrainJob is one call of the command.
type retrainJob struct {
	dir                   retrain.Folder
	source                data.Source // of the new events, and the files of items and users
	model, data, artefact string      // where it begins
	known                 string      // file of the events that data was prepared from, empty for those of data
	key, to, as, out      string
	options               retrain.Options
	discard               bool
	keep                  int
	now                   time.Time
	p                     *progress
	// spoil, in tests and in measurements of the gate, spoils what is learnt from.
	spoil spoiler
}

// validate reports flags that are missing or have no meaning.
func (j *retrainJob) validate() error {
	switch {
	case j.dir == "" || j.source.Events == "":
		return errors.New("--state and --events are needed; see wisp retrain --help")
	case !j.discard && j.key == "":
		return errors.New("--key is needed to sign what is published; wisp keygen makes one")
	case !j.discard && j.to == "" && j.out == "":
		return errors.New("say where to publish: --to a folder for gateways, --out a file, or both")
	case j.source.Format == "sequences":
		return errors.New("--format sequences has no times, so that nothing in it is new or old; give events with times")
	}
	if _, ok := studentPresets[j.options.Student]; !ok && j.options.Student != "" {
		return fmt.Errorf("--distil %q is unknown; choose nano, micro or small", j.options.Student)
	}
	if j.out != "" {
		if err := checkOutput(j.out); err != nil {
			return err
		}
	}
	return j.options.Validate()
}

// run carries out one run, or finishes the one that was cut off, and returns what came
// of it in a sentence. A candidate that is not published is an error that wraps
// errRefused.
func (j *retrainJob) run(ctx context.Context) (said string, err error) {
	if err := j.validate(); err != nil {
		return "", err
	}
	j.options = j.options.WithDefaults()
	var key ed25519.PrivateKey
	if !j.discard { // before anything takes long
		if key, err = artifact.ReadPrivateKey(j.key); err != nil {
			return "", err
		}
	}
	unlock, err := j.dir.Lock(ctx, fmt.Sprintf("process %d since %s", os.Getpid(), j.now.UTC().Format(time.RFC3339)))
	if err != nil {
		return "", err
	}
	defer unlock()
	if j.discard {
		return j.discardNews(ctx)
	}
	state, err := j.state(ctx)
	if err != nil {
		return "", err
	}
	last, err := j.dir.Latest()
	if err != nil {
		return "", err
	}
	m := j.newManifest(state, last)
	switch {
	case last == nil || last.Run <= state.Accepted.Run:
	case last.Outcome != nil && last.Outcome.Published:
		j.p.line("run %d was cut off while it published: going on with that", last.Run)
		return j.publish(ctx, last)
	case last.Outcome == nil && last.Same(m):
		j.p.line("run %d was cut off: going on with it", last.Run)
		return j.finish(ctx, last, key)
	case last.Outcome == nil:
		j.p.line("run %d was cut off, and had other options or another program: beginning anew", last.Run)
		if err := j.dir.Remove(last.Run); err != nil {
			return "", err
		}
		m.Run = last.Run
	}
	news, said, err := j.take(ctx, m)
	if err != nil || !news {
		return said, err
	}
	if o := refusedBefore(last, m); o != nil {
		if err := j.dir.Remove(m.Run); err != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: run %d had the very same events, and %s", errRefused, last.Run, o.Reason)
	}
	if err := j.dir.SaveManifest(m); err != nil {
		return "", err
	}
	return j.finish(ctx, m, key)
}

// finish does what is left of a run and publishes what came of it, or says why not.
func (j *retrainJob) finish(ctx context.Context, m *retrain.Manifest, key ed25519.PrivateKey) (string, error) {
	e := execution{dir: j.dir, work: j.dir.Path(j.dir.Run(m.Run)), m: m, key: key, p: j.p, spoil: j.spoil}
	o, err := e.run(ctx)
	var none *noNewsError
	switch {
	case errors.As(err, &none):
		return j.skip(m, none.Error())
	case errors.Is(err, retrain.ErrEvents):
		// What cannot be learnt from now may be left out, or allowed, the next time.
		return "", errors.Join(err, j.dir.Remove(m.Run))
	case err != nil:
		if isInterrupted(err) || isFull(err) {
			err = hinted{err, "run the same command again to go on"}
		}
		return "", err
	}
	m.Outcome = o
	if err := j.dir.SaveManifest(m); err != nil {
		return "", err
	}
	if !o.Published {
		if err := j.dir.Prune(j.keep, m.Before.Accepted); err != nil {
			return "", err
		}
		return "", fmt.Errorf("%w: %s (%s)", errRefused, o.Reason, j.dir.Manifest(m.Run))
	}
	return j.publish(ctx, m)
}

// refusedBefore returns what came of the last run where it was not published, and m
// would only do the same again; else nil.
func refusedBefore(last, m *retrain.Manifest) *retrain.Outcome {
	if last == nil || last.Outcome == nil || last.Outcome.Published || last.Batch.SHA256 != m.Batch.SHA256 ||
		last.Items.SHA256 != m.Items.SHA256 || last.Users.SHA256 != m.Users.SHA256 || !last.Same(m) {
		return nil
	}
	return last.Outcome
}
