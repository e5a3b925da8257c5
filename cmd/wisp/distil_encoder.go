package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/atomicfile"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
)

// encoderPreset is a size of a distilled encoder.
type encoderPreset struct {
	hostgpu.StudentOptions
	vocabulary, levels int
}

// encoderPresets are the sizes by name. Words of micro have 35 values, so that
// it takes less than four megabytes.
var encoderPresets = map[string]encoderPreset{
	"nano":  {hostgpu.StudentOptions{Dim: 128, Layers: 2, FFN: 512}, 12_000, 15},
	"micro": {hostgpu.StudentOptions{Dim: 192, Layers: 3, FFN: 576}, 24_000, 17},
	"small": {hostgpu.StudentOptions{Dim: 256, Layers: 4, FFN: 1024}, 30_000, 127},
}

// packedEncoder is the file of the encoder with its tokenizer in eight bits.
const packedEncoder = "encoder.bin"

func newDistilEncoder() *cobra.Command {
	r := distilRun{textTraining: textTraining{command: "distil-encoder", metric: "overlap"}}
	c := &cobra.Command{
		Use:   "distil-encoder",
		Short: "Distil a small text encoder from a large one",
		Long: `Makes a small text encoder that finds the neighbours that the large one in --teacher
finds. No labels are needed: the teacher says where each text belongs. Texts are the lines of
the files of --texts, the definitions and lemmas of WordNet (Debian's wordnet-base), and film
titles, --augment of them put together from parts of others.

Of the first file of --titles, 2,000 titles are held out for wisp results and 1,000 for
validation, and whatever equals one of these in another source. The metric is the share of the
teacher's ten nearest neighbours of a validation title that the student finds.

The small encoder is new, but for the embeddings of its words, which are the teacher's; with
--prune it is what is left of the teacher when the blocks, heads, columns of feed-forward parts
and dimensions that change its embeddings least are taken away; with --start it is one that was
distilled before, with its vocabulary. Each is then trained.

The vocabulary is cut to the most frequent tokens of the texts; single characters stay, so
that any text still encodes.

OUT is a Hugging Face folder, which other commands take with --encoder. OUT/` + packedEncoder + ` is the
encoder in eight bits with its tokenizer; OUT/run has curves, and what the teacher said. Ctrl-C
saves; the same command with --resume goes on. Interrupted while the teacher speaks, the same
command goes on without it.`,
		Example: `  wisp distil-encoder --teacher all-MiniLM-L6-v2 --wordnet /usr/share/wordnet --titles movies.dat --out encoder
  wisp distil-encoder --teacher all-MiniLM-L6-v2 --texts products.txt --titles movies.dat --out tiny --size nano --vocabulary 6000
  wisp distil-encoder --teacher all-MiniLM-L6-v2 --texts products.txt --prune --layers 4 --heads 8 --dim 256 --ffn 1024 --out pruned`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := r.run(cmd.Context(), newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: overlap of neighbours %.4f in epoch %d, %.4f before; %d bytes in %s%s\n",
				r.out, result.Best, result.BestEpoch, result.Before, result.Bytes, packedEncoder, memoryNote())
			return nil
		},
	}
	f, o, s := c.Flags(), &r.Options, &r.Student
	f.StringVar(&r.encoder, "teacher", "", "folder of the large text encoder")
	f.StringVar(&r.out, "out", "", "folder for the small one")
	f.BoolVar(&r.resume, "resume", false, "go on with an interrupted run in --out")
	deviceFlag(f, &r.device)
	f.StringArrayVar(&r.files, "texts", nil, "`file` with a text a line; may be given more than once")
	f.StringVar(&r.wordnet, "wordnet", "", "`folder` with WordNet's data files")
	f.StringArrayVar(&r.titles, "titles", nil, "`file` with film titles, id::title::genres or id;title;genres; may be given more than once")
	f.IntVar(&r.Augment, "augment", 200_000, "titles that are put together from parts of others")
	f.StringVar(&r.Size, "size", "micro", "nano, micro or small; the next flags change it")
	f.StringVar(&r.Start, "start", "", "go on with a small encoder of whatever size: a `folder`"+orBuiltin)
	f.BoolVar(&r.Pruned, "prune", false, "start from what is left of the teacher, not anew")
	f.IntVar(&s.Dim, "dim", 0, "width of the embeddings")
	f.IntVar(&s.Layers, "layers", 0, "transformer blocks")
	f.IntVar(&s.Heads, "heads", 0, "attention heads (default as many as make them 32 wide)")
	f.IntVar(&s.FFN, "ffn", 0, "inner width of a block")
	f.IntVar(&r.Vocabulary, "vocabulary", 0, "tokens that are kept")
	f.IntVar(&r.Levels, "word-levels", 0, "levels on each side of zero that embeddings of words have in "+packedEncoder)
	f.IntVar(&r.MaxTokens, "max-tokens", 32, "tokens that a text is cut to in training")
	f.IntVar(&o.Batch, "batch", 0, "texts of a batch (default 192)")
	f.IntVar(&o.Steps, "steps", 0, "batches of an epoch (default 500)")
	f.Float64Var(&o.Temperature, "temperature", 0, "by which cosines are divided (default 0.05)")
	f.Float64Var(&o.Losses.Rank, "rank", 0, "weight of the loss of ranks (default 1; with no weight given)")
	f.Float64Var(&o.Losses.Cosine, "cosine", 0, "weight of the loss of cosines (default 60)")
	f.Float64Var(&o.Losses.Vector, "vector", 0, "weight of the loss of vectors (default 20)")
	f.IntVar(&o.Train.Epochs, "epochs", 0, "epochs at most (default 20)")
	f.IntVar(&o.Train.Patience, "patience", 0, "epochs without improvement before stopping (default 5)")
	f.Float64Var(&o.Train.LearningRate, "lr", 0, "highest learning rate, after warm-up (default 0.002)")
	f.Uint64Var(&o.Train.Seed, "seed", 1, "seed of all chance but that of what is held out")
	required(c, "teacher", "out")
	return c
}

// distilRun is one distillation.
type distilRun struct {
	textTraining
	files, titles []string
	wordnet       string
	distilSettings
}

// distilSettings are what a distillation started from.
type distilSettings struct {
	Teacher    string                 `json:"teacher"`
	Texts      int                    `json:"texts"`
	Augment    int                    `json:"augment"`
	Size       string                 `json:"size"`
	Student    hostgpu.StudentOptions `json:"student"`
	Pruned     bool                   `json:"pruned,omitempty"` // the student was left of the teacher
	Start      string                 `json:"start,omitempty"`  // the student was distilled before, and lay there
	Vocabulary int                    `json:"vocabulary"`
	Levels     int                    `json:"word_levels"`
	MaxTokens  int                    `json:"max_tokens"`
	Options    hostgpu.DistilOptions  `json:"options"`
	BLAS       string                 `json:"blas"`
}

// distilled is how an encoder came about.
type distilled struct {
	distilSettings
	Before    float64 `json:"before"`
	Best      float64 `json:"best"`
	BestEpoch int     `json:"best_epoch"`
	Bytes     int     `json:"bytes"`
}

// sized fills in what the preset says and no flag did.
func (r *distilRun) sized() error {
	p, ok := encoderPresets[r.Size]
	if !ok {
		return fmt.Errorf("--size %q is unknown; choose nano, micro or small", r.Size)
	}
	s := &r.Student
	s.Dim, s.Layers, s.FFN = cmp.Or(s.Dim, p.Dim), cmp.Or(s.Layers, p.Layers), cmp.Or(s.FFN, p.FFN)
	r.Vocabulary, r.Levels = cmp.Or(r.Vocabulary, p.vocabulary), cmp.Or(r.Levels, p.levels)
	s.Seed = r.Options.Train.Seed
	return errors.Join(s.Validate(), r.Options.Validate())
}

func (r *distilRun) run(ctx context.Context, p *progress) (result distilled, err error) {
	defer p.done()
	if err := r.sized(); err != nil {
		return result, err
	}
	tok, teacher, err := loadEncoder(r.encoder)
	if err != nil {
		return result, err
	}
	if r.MaxTokens < 3 || r.MaxTokens > teacher.Config.Positions {
		return result, fmt.Errorf("--max-tokens is %d, must lie between 3 and the %d of the teacher", r.MaxTokens, teacher.Config.Positions)
	}
	learnt, held, err := r.gather()
	if err != nil {
		return result, err
	}
	if err := r.makeDir(); err != nil {
		return result, err
	}
	device, err := openDevice(r.device, p)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	r.Options.Train.Device = device
	r.Teacher, r.Texts, r.BLAS = r.encoder, len(learnt), cmp.Or(deviceName(device), hostgpu.BLAS().Name)
	p.line("distilling with %d texts and %d titles held out, with %s", len(learnt), len(held), r.BLAS)

	counts, ids := make([]int, tok.Size()), make([][]int32, len(learnt))
	for i, text := range learnt {
		ids[i] = tok.Encode(nil, text, r.MaxTokens)
		for _, id := range ids[i] {
			counts[id]++
		}
	}
	small, start, from, err := r.reads(tok, counts)
	if err != nil {
		return result, err
	}
	r.Vocabulary = small.Size()
	task := hostgpu.DistilTask{Texts: encodeAll(small, learnt, 2*r.MaxTokens), Held: encodeAll(small, held, 2*r.MaxTokens)}
	if task.Targets, err = r.label(ctx, teacher, ids, p); err != nil {
		return result, err
	}
	task.Given = make([]float32, len(held)*teacher.Config.Dim)
	if err := hostgpu.NewTextEncoder(teacher, 0).Embed(ctx, task.Given, encodeAll(tok, held, teacher.Config.MaxTokens)); err != nil {
		return result, err
	}
	student := start
	if student == nil {
		if student, err = r.student(ctx, teacher, tok.Special(), from, ids, p); err != nil {
			return result, err
		}
	}
	run, err := hostgpu.NewDistilRun(student, task, r.Options)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, run.Close()) }()
	r.Options = run.Distil()
	if err := r.fit(ctx, run.TextRun, r.distilSettings, len(held) > 0, p); err != nil {
		return result, err
	}
	result.distilSettings = r.distilSettings
	result.Before, result.Best, result.BestEpoch = run.Best()
	return r.keep(run.Model(), small, result)
}

// reads returns the tokenizer of the student, and the student where it was distilled
// before, or else what of the teacher's vocabulary its own is.
func (r *distilRun) reads(tok *tokenize.Tokenizer, counts []int) (small *tokenize.Tokenizer, start *model.TextModel, from []int32, err error) {
	switch {
	case r.Start == "":
		small, from, err = tok.Prune(min(r.Vocabulary, tok.Size()), counts)
		return small, nil, from, err
	case r.Pruned:
		return nil, nil, nil, errors.New("--start and --prune: an encoder is one or the other; give one of them")
	}
	if small, start, err = loadEncoder(r.Start); err != nil {
		return nil, nil, nil, err
	}
	c := start.Config
	r.Student = hostgpu.StudentOptions{Dim: c.Dim, Layers: c.Layers, Heads: c.Heads, FFN: c.FFN, Positions: c.Positions, Seed: r.Student.Seed}
	return small, start, nil, nil
}

// importanceSample is how many texts the parts of a teacher are weighed on.
const importanceSample = 4096

// student returns the encoder to train, with the tokens from of the teacher, whose ids
// of the texts are given.
func (r *distilRun) student(ctx context.Context, teacher *model.TextModel, special tokenize.SpecialIDs, from []int32, ids [][]int32, p *progress) (*model.TextModel, error) {
	if !r.Pruned {
		words, err := hostgpu.TokenVectors(ctx, teacher, special, from, r.Student.Dim)
		if err != nil {
			return nil, err
		}
		return hostgpu.NewStudent(words, r.Student)
	}
	s := r.Student.WithDefaults()
	o := quantize.TextPruneOptions{Layers: s.Layers, Heads: s.Heads, FFN: s.FFN, Dim: s.Dim, Positions: min(s.Positions, teacher.Config.Positions), Tokens: from}
	sample := make([][]int32, 0, importanceSample)
	for _, i := range rand.New(rand.NewPCG(s.Seed, 0x7e)).Perm(len(ids))[:min(importanceSample, len(ids))] {
		sample = append(sample, ids[i])
	}
	// Texts of like length make a batch.
	slices.SortStableFunc(sample, func(a, b []int32) int { return len(a) - len(b) })
	importance, err := hostgpu.TextImportance(ctx, teacher, sample, s.Seed, func(read, texts int) { p.stage("weighing the teacher's parts", int64(read), int64(texts)) })
	if err != nil {
		return nil, err
	}
	return quantize.PruneText(teacher, importance, o)
}

// keep writes the encoder, its tokenizer and how it came about.
func (r *distilRun) keep(m *model.TextModel, tok *tokenize.Tokenizer, result distilled) (distilled, error) {
	packed, err := quantize.PackText(m, tok, r.Levels)
	if err != nil {
		return result, err
	}
	result.Bytes = len(packed)
	if err := tok.Save(r.out); err != nil {
		return result, err
	}
	if err := atomicfile.Write(filepath.Join(r.out, packedEncoder), packed); err != nil {
		return result, err
	}
	// The tokenizer is in the folder already.
	r.encoder = r.out
	return result, r.save(m, result)
}

// gather returns the texts to learn from and those to validate on.
func (r *distilRun) gather() (learnt, held []string, err error) {
	if len(r.files) == 0 && r.wordnet == "" && len(r.titles) == 0 {
		return nil, nil, errors.New("no texts to learn from; give --texts, --wordnet or --titles")
	}
	var valid, films []title
	c := newCorpus()
	for i, path := range r.titles {
		titles, err := readTitles(path)
		if err != nil {
			return nil, nil, err
		}
		if i == 0 {
			var test []title
			test, valid = holdOut(titles)
			c = newCorpus(slices.Concat(test, valid)...)
		}
		films = append(films, titles...)
	}
	films = slices.DeleteFunc(films, func(t title) bool { return !c.keeps(t.text) })
	for _, t := range films {
		c.add(t.text, bare(t.text))
		c.addTitles(t)
	}
	var lemmas []string
	if r.wordnet != "" {
		var glosses []string
		if glosses, lemmas, err = wordNet(r.wordnet); err != nil {
			return nil, nil, err
		}
		c.add(glosses...)
		c.add(lemmas...)
	}
	c.addTitles(recombined(films, lemmas, r.Augment, rand.New(rand.NewPCG(r.Options.Train.Seed, 7)))...)
	for _, path := range r.files {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, fmt.Errorf("--texts: %w; check the path", err)
		}
		n := 0
		for line := range strings.Lines(string(content)) {
			if n++; !utf8.ValidString(line) {
				return nil, nil, fmt.Errorf("%s:%d is not UTF-8; convert the file, for instance with iconv", path, n)
			}
			c.add(line)
		}
	}
	return c.all, texts(valid), nil
}

// encodeAll returns the tokens of texts, cut to the given number.
func encodeAll(tok *tokenize.Tokenizer, texts []string, tokens int) [][]int32 {
	ids := make([][]int32, len(texts))
	for i, text := range texts {
		ids[i] = tok.Encode(nil, text, tokens)
	}
	return ids
}

// label returns what the teacher makes of texts. It is kept in the run folder: a
// digest of teacher and texts, then step and integers of each. What an interrupted
// command has written is used by the next.
func (r *distilRun) label(ctx context.Context, teacher *model.TextModel, texts [][]int32, p *progress) (_ *hostgpu.TextTargets, err error) {
	dir := filepath.Join(r.out, runFolder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "targets.bin"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	key, e := labelKey(teacher, texts), teacher.Config.Dim
	targets, row := hostgpu.NewTextTargets(e), make([]byte, 4+e)
	values := make([]int8, e)
	known := make([]byte, len(key))
	if _, err := io.ReadFull(f, known); err != nil || string(known) != string(key) {
		if err := errors.Join(f.Truncate(0), seek(f, 0)); err != nil {
			return nil, err
		}
		if _, err := f.Write(key); err != nil {
			return nil, err
		}
	}
	for targets.Len() < len(texts) {
		if _, err := io.ReadFull(f, row); err != nil {
			break // the rest is to be written
		}
		for j := range values {
			values[j] = int8(row[4+j])
		}
		targets.AddPacked(values, math.Float32frombits(binary.LittleEndian.Uint32(row)))
	}
	if err := seek(f, int64(len(key)+targets.Len()*len(row))); err != nil {
		return nil, err
	}
	encoder := hostgpu.NewTextEncoder(teacher, 0)
	const chunk = 2048
	vectors := make([]float32, chunk*e)
	for lo := targets.Len(); lo < len(texts); lo = targets.Len() {
		n := min(chunk, len(texts)-lo)
		if err := encoder.Embed(ctx, vectors[:n*e], texts[lo:lo+n]); err != nil {
			return nil, err
		}
		var b []byte
		for i := range n {
			targets.Add(vectors[i*e : (i+1)*e])
			values, step := targets.Packed(lo + i)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(step))
			for _, v := range values {
				b = append(b, byte(v))
			}
		}
		if _, err := f.Write(b); err != nil {
			return nil, err
		}
		p.stage("asking the teacher", int64(targets.Len()), int64(len(texts)))
	}
	return targets, nil
}

// seek moves f to a place from its start.
func seek(f *os.File, at int64) error {
	_, err := f.Seek(at, io.SeekStart)
	return err
}

// labelKey is a digest of a teacher and of texts.
func labelKey(teacher *model.TextModel, texts [][]int32) []byte {
	h := sha256.New()
	var b []byte
	for _, s := range teacher.Config.Specs() {
		b = b[:0]
		for _, v := range teacher.Weights[s.Name].Data {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		h.Write(b)
	}
	for _, ids := range texts {
		b = binary.LittleEndian.AppendUint32(b[:0], uint32(len(ids)))
		for _, id := range ids {
			b = binary.LittleEndian.AppendUint32(b, uint32(id))
		}
		h.Write(b)
	}
	return h.Sum(nil)
}
