package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
)

const gamesText = `
wisp's user tower over learnt item embeddings and a SASRec in PyTorch (learnt
positions, bench/peers/sasrec.py), trained on the same users with the same
hyper-parameters, on the same machine in one run. Neither is given
anything but item ids. Both take a full softmax over the catalogue, some 1,024 targets
a step, and stop when validation does not improve any more; wisp validates a running
average of its weights, SASRec the weights themselves.

Protocol: the last event of each user is the test, the one before it validation, as in
the data set's own files; the whole catalogue is ranked, items of the history left out,
by the weights with the best validation NDCG@10; the rank is the number of items that
score strictly higher. ndcg10-ratio-to-pytorch is ours over PyTorch's, above 1 is
better. Intervals of NDCG@10 and of the difference, ours less PyTorch's: bootstrap over
cases; one seed each.

The sides take turns, an epoch each. Times are of an epoch with its validation: medians
and ranges of those epochs that both took in this run, on two threads each; there are
none where the machine had other work (-untimed), and either side one thread.
`

// minEvents is how many events a user needs to be asked about.
const minEvents = 5

// match is a training of ours and one of PyTorch's on the same data.
type match struct {
	ds           *data.Dataset
	split        *data.Split
	trainer      *hostgpu.Trainer
	peer         *peer
	ended        bool      // the peer's training
	untimed      bool      // other programs may run beside
	ours, theirs []float64 // seconds of the epochs that both took
}

// games compares the quality that a training reaches. It takes up to -limit; what
// is trained by then is kept in the work folder and gone on with the next time.
func (b *bench) games(ctx context.Context, python string) (err error) {
	source := func(part string) string { return filepath.Join(b.shared, "data", "games", "Games-6k."+part) }
	work := filepath.Join(b.work, "games")
	var m match
	if m.ds, err = gamesData(ctx, source, filepath.Join(work, "prepared")); err != nil {
		return err
	}
	m.split = data.LeaveOneOut(m.ds, minEvents)
	if m.trainer, err = hostgpu.NewTrainer(m.ds, m.split, hostgpu.Vectors{}, hostgpu.TrainOptions{Seed: 1}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.trainer.Close()) }()
	// Where `wisp results` keeps the same training.
	checkpoint := filepath.Join(work, "ids-leave-one-out-seed-1", "checkpoint.safetensors")
	if err := os.MkdirAll(filepath.Dir(checkpoint), 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(checkpoint); err == nil {
		if err := m.trainer.Resume(checkpoint); err != nil {
			return err
		}
	}
	sides := threads
	if m.untimed = b.untimed; m.untimed {
		sides = 1
		runtime.GOMAXPROCS(sides)
	}
	options, err := json.Marshal(sasrecOptions(m.trainer.Options(), sides))
	if err != nil {
		return err
	}
	if m.peer, err = startPeer(ctx, python, b.peers, []string{
		"sasrec.py", source("valid.inter"), source("test.inter"), strconv.Itoa(len(m.ds.Items)), filepath.Join(work, "sasrec.pt"), string(options),
	}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.peer.close()) }()
	if !m.untimed {
		if err := idle(ctx); err != nil {
			return err
		}
	}
	if err := m.train(ctx, checkpoint, time.Now().Add(b.limit)); err != nil {
		return err
	}
	records, err := m.measure(ctx, filepath.Join(work, "sasrec-ranks.txt"))
	if err != nil {
		return err
	}
	return write(ctx, b.docs, "make bench-games", results.Topic{Name: "peers-games", Title: "Quality side by side with PyTorch", Text: gamesText, Records: records})
}

// gamesData returns the data set in dir, prepared unless it was before.
func gamesData(ctx context.Context, source func(part string) string, dir string) (*data.Dataset, error) {
	if _, err := data.ReadManifest(dir); err != nil {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, err
		}
		src := data.Source{Format: "sequences", Events: source("test.inter"), Items: source("item")}
		if _, err := data.Prepare(ctx, src, data.PrepareOptions{Name: "games"}, dir, nil); err != nil {
			return nil, err
		}
	}
	return data.Load(dir)
}

// sasrecOptions are ours in the peer's words.
func sasrecOptions(o hostgpu.TrainOptions, threads int) map[string]any {
	return map[string]any{
		"threads": threads,
		"window":  o.Window, "dim": o.Dim, "layers": o.Layers, "dropout": o.Dropout, "smoothing": o.Smoothing,
		"learning_rate": o.LearningRate, "warmup": o.Warmup, "weight_decay": o.WeightDecay, "clip_norm": o.ClipNorm,
		"batch": o.Rows * o.Length, "epochs": o.Epochs, "patience": o.Patience, "seed": o.Seed,
	}
}

// train lets both sides train to the end, in turn. No epoch starts after limit.
func (m *match) train(ctx context.Context, checkpoint string, limit time.Time) error {
	var finished, ended int
	if err := m.peer.read(&finished, &ended); err != nil {
		return err
	}
	m.ended = ended != 0
	limited, stop := context.WithDeadline(ctx, limit)
	defer stop()
	var turn error
	begin, steps := time.Now(), 0
	err := m.trainer.Run(limited, checkpoint, func(e hostgpu.Progress) {
		steps++
		if !e.Done {
			return
		}
		seconds := time.Since(begin).Seconds()
		fmt.Fprintf(os.Stderr, "games: wisp: epoch %d in %.0f s, loss %.4f, validation NDCG@10 %.4f\n", e.Epoch, seconds, e.Loss, e.NDCG)
		// An epoch that was taken up in its middle does not count.
		whole := steps == e.Steps+1
		if !m.ended && time.Now().Before(limit) {
			var theirs float64
			if theirs, turn = m.theirEpoch(); turn != nil {
				stop()
			} else if whole {
				m.ours, m.theirs = append(m.ours, seconds), append(m.theirs, theirs)
			}
		}
		begin, steps = time.Now(), 0
	})
	if turn != nil {
		return turn
	}
	for err == nil && !m.ended {
		if err = limited.Err(); err == nil {
			_, err = m.theirEpoch()
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("games: not at the end after -limit; run the same command again to go on")
	}
	return err
}

// theirEpoch lets the peer train an epoch and returns the seconds it took.
func (m *match) theirEpoch() (seconds float64, err error) {
	if _, err := fmt.Fprintln(m.peer.in, "epoch"); err != nil {
		return 0, fmt.Errorf("sasrec.py: %w: %s", err, m.peer.stderr.String())
	}
	var loss, ndcg float64
	var epoch, ended int
	if err := m.peer.read(&seconds, &loss, &ndcg, &epoch, &ended); err != nil {
		return 0, err
	}
	m.ended = ended != 0
	fmt.Fprintf(os.Stderr, "games: PyTorch: epoch %d in %.0f s, loss %.4f, validation NDCG@10 %.4f\n", epoch, seconds, loss, ndcg)
	return seconds, nil
}

// measure makes the figures of both sides out of the ranks of the test targets.
func (m *match) measure(ctx context.Context, path string) ([]results.Record, error) {
	trained, err := m.trainer.Model()
	if err != nil {
		return nil, err
	}
	ours, err := eval.Run(ctx, hostgpu.NewScorer("ids-teacher", trained), len(m.ds.Items), m.split.Test, make([]int64, len(m.ds.Items)), eval.Options{}, nil)
	if err != nil {
		return nil, err
	}
	theirs := *ours
	theirs.Scorer = "sasrec-pytorch"
	var validation float64
	var epoch int
	if _, err := fmt.Fprintln(m.peer.in, "test", path); err != nil {
		return nil, fmt.Errorf("sasrec.py: %w: %s", err, m.peer.stderr.String())
	}
	if err := m.peer.read(&validation, &epoch); err != nil {
		return nil, err
	}
	if theirs.Rank, err = readRanks(path, len(m.split.Test)); err != nil {
		return nil, err
	}
	var records []results.Record
	add := func(name, unit, note string, i eval.Interval, n int) {
		records = append(records, results.Record{Name: name, Value: i.Value, Low: i.Low, High: i.High, N: n, Unit: unit, Note: note})
	}
	interval := func(r *eval.Result, metric eval.Metric) (i eval.Interval) {
		if err == nil {
			i, err = eval.Bootstrap(r.PerCase(metric), eval.BootstrapOptions{})
		}
		return i
	}
	our, their, cases := interval(ours, eval.NDCG), interval(&theirs, eval.NDCG), len(m.split.Test)
	add("quality.games.sasrec-pytorch.ndcg10", "", "PyTorch "+m.peer.version, their, cases)
	add("quality.games.sasrec-pytorch.hr10", "", "", interval(&theirs, eval.HitRate), cases)
	add("quality.games.sasrec-pytorch.validation-ndcg10", "", fmt.Sprintf("epoch %d", epoch), exactly(validation), cases)
	if err != nil {
		return nil, err
	}
	ahead, err := eval.PairedBootstrap(ours, &theirs, eval.NDCG, eval.BootstrapOptions{})
	if err != nil {
		return nil, err
	}
	best, bestEpoch := m.trainer.Best()
	note := fmt.Sprintf("wisp %.4f (%.4f to %.4f); validation %.4f in epoch %d", our.Value, our.Low, our.High, best, bestEpoch)
	add("quality.games.ids-teacher.ndcg10-ratio-to-pytorch", "ratio", note, exactly(our.Value/their.Value), cases)
	add("quality.games.ids-teacher.ndcg10-ahead-of-pytorch", "", "", ahead.Interval, cases)
	if len(m.ours) > 0 && !m.untimed {
		records = append(records, timeRecords("train-games", "epoch", "", m.peer.version, m.ours, m.theirs)...)
	}
	return records, nil
}

// exactly is a figure without an interval.
func exactly(v float64) eval.Interval { return eval.Interval{Value: v, Low: v, High: v} }

// readRanks reads n ranks, one a line.
func readRanks(path string, n int) (ranks []int32, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		rank, err := strconv.ParseInt(lines.Text(), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		ranks = append(ranks, int32(rank))
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(ranks) != n {
		return nil, fmt.Errorf("%s has %d ranks, want %d", path, len(ranks), n)
	}
	return ranks, nil
}
