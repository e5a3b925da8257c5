package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/results"
	"github.com/wisp-project/wisp/model"
)

func TestBagOfWords(t *testing.T) {
	b := newBagOfWords([]string{"Good sound", "good sound once", "bad"})
	x := b.rows([]string{"good sound", "GOOD good", "never seen"})
	if x.width != 3 { // good, sound, and both
		t.Fatalf("%d columns, want 3", x.width)
	}
	third, one := 1/math.Sqrt(3), 1.0
	for i, want := range [][]float64{{third, third, third}, {one}, nil} {
		got := x.values[x.start[i]:x.start[i+1]]
		if !slices.EqualFunc(got, want, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
			t.Errorf("row %d is %v, want %v", i, got, want)
		}
	}
	// "bad" is in two of three texts, "good" in all.
	b = newBagOfWords([]string{"good bad", "bad good", "good"})
	bad, good := math.Log(4./3)+1, 1.0
	length := math.Hypot(bad, good)
	if got := b.rows([]string{"good now bad"}).values; len(got) != 2 || math.Abs(got[0]-bad/length) > 1e-12 || math.Abs(got[1]-good/length) > 1e-12 {
		t.Errorf("weights %v, want %v and %v", got, bad/length, good/length)
	}
}

// One feature that is 1 with three of four positive rows, and 0 with one of four:
// without a penalty to speak of, bias and weight are log odds.
func TestLogisticByHand(t *testing.T) {
	x := denseRows([]float32{1, 1, 1, 1, 0, 0, 0, 0}, 1, []int{0, 1, 2, 3, 4, 5, 6, 7})
	l, err := fitLogistic(t.Context(), x, []int{1, 1, 1, 0, 1, 0, 0, 0}, 1e-9)
	if err != nil {
		t.Fatal(err)
	}
	if want := math.Log(3); math.Abs(l.weights[0]-2*want) > 1e-3 || math.Abs(l.weights[1]+want) > 1e-3 {
		t.Errorf("weight and bias %v, want %v and %v", l.weights, 2*want, -want)
	}
	if got, want := l.predict(x), []int{1, 1, 1, 1, 0, 0, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("predicted %v, want %v", got, want)
	}
	for _, test := range []struct {
		classes []int
		l2      float64
	}{{nil, 1}, {[]int{1}, 1}, {make([]int, 8), 0}} {
		if _, err := fitLogistic(t.Context(), x, test.classes, test.l2); err == nil {
			t.Errorf("%d classes, weight %v: no error", len(test.classes), test.l2)
		}
	}
}

// At the minimum, by differences of the loss, no direction goes down, whatever
// the penalty and however well a plane divides the classes.
func TestLogisticMinimises(t *testing.T) {
	const n, d = 60, 4
	r := rand.New(rand.NewPCG(1, 0))
	values, classes, rows := make([]float32, n*d), make([]int, n), make([]int, n)
	for i := range values {
		values[i] = float32(r.NormFloat64())
	}
	for i := range classes {
		rows[i] = i
		if values[i*d]-2*values[i*d+1] > 0.5 {
			classes[i] = 1
		}
	}
	x := denseRows(values, d, rows)
	loss := func(w []float64, l2 float64) float64 {
		sum := 0.0
		for i, class := range classes {
			z := w[d]
			for j := range d {
				z += w[j] * float64(values[i*d+j])
			}
			sum += math.Log1p(math.Exp(z)) - float64(class)*z
		}
		for _, v := range w[:d] {
			sum += n * l2 / 2 * v * v
		}
		return sum / n
	}
	for _, l2 := range []float64{1e-5, 1e-2, 10} {
		l, err := fitLogistic(t.Context(), x, classes, l2)
		if err != nil {
			t.Fatal(err)
		}
		start := make([]float64, d+1)
		for j := range l.weights {
			slope := func(w []float64) float64 {
				const h = 1e-5
				up, down := slices.Clone(w), slices.Clone(w)
				up[j] += h
				down[j] -= h
				return (loss(up, l2) - loss(down, l2)) / (2 * h)
			}
			if got := slope(l.weights); math.Abs(got) > 1e-4 {
				t.Errorf("l2 %v: slope %v along %d, %v at the start", l2, got, j, slope(start))
			}
		}
	}
}

// With three classes the loss is as low as it gets, and corners of a triangle are told
// apart.
func TestLogisticOfThree(t *testing.T) {
	const n, l2 = 300, 1e-3
	r := rand.New(rand.NewPCG(2, 0))
	values, classes, rows := make([]float32, 2*n), make([]int, n), make([]int, n)
	for i := range classes {
		rows[i], classes[i] = i, r.IntN(3)
		values[2*i] = float32(math.Sin(2*math.Pi*float64(classes[i])/3) + 0.4*r.NormFloat64())
		values[2*i+1] = float32(math.Cos(2*math.Pi*float64(classes[i])/3) + 0.4*r.NormFloat64())
	}
	x := denseRows(values, 2, rows)
	l, err := fitLogistic(t.Context(), x, classes, l2)
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, class := range l.predict(x) {
		if class == classes[i] {
			right++
		}
	}
	if right < 270 || len(l.weights) != 6 {
		t.Errorf("%d of %d are right with %d weights", right, n, len(l.weights))
	}
	loss := func() float64 {
		sum, z := 0.0, make([]float64, 2)
		for i, class := range classes {
			l.logits(z, x, i)
			sum += math.Log(1 + math.Exp(z[0]) + math.Exp(z[1]))
			if class > 0 {
				sum -= z[class-1]
			}
		}
		sum /= n
		for j, w := range l.weights {
			if j%3 < 2 {
				sum += l2 / 2 * w * w
			}
		}
		return sum
	}
	least := loss()
	for j := range l.weights {
		for _, by := range []float64{-0.02, 0.02} {
			l.weights[j] += by
			if got := loss(); got < least {
				t.Errorf("weight %d: the loss falls from %v to %v", j, least, got)
			}
			l.weights[j] -= by
		}
	}
}

func TestReadSentences(t *testing.T) {
	dir := t.TempDir()
	if _, err := readSentences(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no files: %v", err)
	}
	write(t, filepath.Join(dir, "rt-polarity.neg"), "no clich\xe9 \n\n too long\n")
	write(t, filepath.Join(dir, "rt-polarity.pos"), " \n")
	if _, err := readSentences(dir); err == nil || !strings.Contains(err.Error(), "rt-polarity.pos") {
		t.Errorf("an empty file: error %v, want one that names it", err)
	}
	write(t, filepath.Join(dir, "rt-polarity.pos"), "fine")
	s, err := readSentences(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"no cliché", "too long", "fine"}; !slices.Equal(s.texts, want) || !slices.Equal(s.classes, []int{0, 0, 1}) {
		t.Errorf("sentences %q of classes %v", s.texts, s.classes)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A run that was interrupted goes on with the fold that was not finished; folds
// of another key, and damaged ones, are made again.
func TestCrossValidationResumes(t *testing.T) {
	folds, err := eval.Folds(50, sentimentFolds, 1)
	if err != nil {
		t.Fatal(err)
	}
	classes := make([]int, len(folds))
	for i := range classes {
		classes[i] = i % 2
	}
	c := crossValidation{work: t.TempDir(), name: "fold", key: "a", progress: &progress{w: io.Discard}}
	ctx, cancel := context.WithCancel(t.Context())
	stopAt, asked := 4, 0
	predict := func(_ context.Context, train, test []int) ([]int, error) {
		if len(train) != 45 || len(test) != 5 {
			t.Fatalf("%d and %d sentences, want 45 and 5", len(train), len(test))
		}
		for _, i := range test {
			if slices.Contains(train, i) || folds[i] != folds[test[0]] {
				t.Fatalf("fold of %v, trained on %v", test, train)
			}
		}
		asked++
		if asked == stopAt {
			cancel()
			return nil, ctx.Err()
		}
		predicted := pick(classes, test)
		predicted[0] = 1 - predicted[0]
		return predicted, nil
	}
	run := func(ctx context.Context, wantAsked int, wantErr error) {
		t.Helper()
		asked = 0
		got, err := c.run(ctx, folds, classes, predict)
		if !errors.Is(err, wantErr) {
			t.Fatalf("error %v, want %v", err, wantErr)
		}
		if err == nil && !slices.Equal(got, slices.Repeat([]float64{0.8}, sentimentFolds)) {
			t.Errorf("accuracies %v, want 0.8 each", got)
		}
		if asked != wantAsked {
			t.Errorf("%d folds were predicted, want %d", asked, wantAsked)
		}
	}
	run(ctx, 4, context.Canceled)
	run(ctx, 0, context.Canceled)
	stopAt = -1
	run(t.Context(), 7, nil)
	run(t.Context(), 0, nil)
	write(t, filepath.Join(c.work, "fold-3.json"), `{"key":"a","acc`)
	run(t.Context(), 1, nil)
	c.key = "b"
	run(t.Context(), 10, nil)
	failure := errors.New("broken")
	c.key = "c"
	if _, err := c.run(t.Context(), folds, classes, func(context.Context, []int, []int) ([]int, error) { return nil, failure }); !errors.Is(err, failure) {
		t.Errorf("error %v, want that of the predictor", err)
	}
}

var toyWords = []string{"the", "a", "sound", "case", "cable", "screen", "is", "and", "good", "bad"}

// writeToyEncoder writes a random BERT of five small blocks that knows toyWords.
func writeToyEncoder(t *testing.T, dir string, seed uint64) {
	t.Helper()
	vocabulary := append([]string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}, toyWords...)
	write(t, filepath.Join(dir, "vocab.txt"), strings.Join(vocabulary, "\n")+"\n")
	const d, f, layers = 16, 24, 5
	config, err := json.Marshal(map[string]any{
		"model_type": "bert", "vocab_size": len(vocabulary), "max_position_embeddings": 24, "type_vocab_size": 2,
		"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": f,
	})
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), string(config))
	r := rand.New(rand.NewPCG(seed, 0))
	tensors := map[string]*model.Tensor{}
	add := func(name string, shape ...int) {
		x := model.NewTensor(shape...)
		for i := range x.Data {
			x.Data[i] = float32(r.NormFloat64() * 0.1)
			if strings.HasSuffix(name, "LayerNorm.weight") {
				x.Data[i]++
			}
			if strings.HasPrefix(name, "embeddings.word") {
				x.Data[i] *= 10
			}
		}
		tensors[name] = x
	}
	linear := func(name string, out, in int) {
		add(name+".weight", out, in)
		add(name+".bias", out)
	}
	norm := func(name string) {
		add(name+".LayerNorm.weight", d)
		add(name+".LayerNorm.bias", d)
	}
	add("embeddings.word_embeddings.weight", len(vocabulary), d)
	add("embeddings.position_embeddings.weight", 24, d)
	add("embeddings.token_type_embeddings.weight", 2, d)
	norm("embeddings")
	for l := range layers {
		p := fmt.Sprintf("encoder.layer.%d.", l)
		for _, q := range []string{"query", "key", "value"} {
			linear(p+"attention.self."+q, d, d)
		}
		linear(p+"attention.output.dense", d, d)
		norm(p + "attention.output")
		linear(p+"intermediate.dense", f, d)
		linear(p+"output.dense", d, f)
		norm(p + "output")
	}
	if err := model.SaveTensors(filepath.Join(dir, "model.safetensors"), tensors, nil); err != nil {
		t.Fatal(err)
	}
}

// The whole topic on sentences whose class is a word, with a tiny encoder.
func TestSentimentTopic(t *testing.T) {
	b := &bench{shared: t.TempDir(), work: t.TempDir(), p: &progress{w: io.Discard}}
	if topic, err := b.sentiment(t.Context()); err != nil || len(topic.Records) != 0 {
		t.Fatalf("without data: %v, %v", topic.Records, err)
	}
	r := rand.New(rand.NewPCG(6, 0))
	for class, word := range map[string]string{"neg": "bad", "pos": "good"} {
		var text strings.Builder
		for range 400 {
			words := make([]string, 3+r.IntN(4))
			for i := range words {
				words[i] = toyWords[r.IntN(len(toyWords)-2)]
			}
			words[r.IntN(len(words))] = word
			fmt.Fprintln(&text, strings.Join(words, " "))
		}
		write(t, filepath.Join(b.shared, "data", "rt-polarity", "rt-polarity."+class), text.String())
	}
	check := func(wants ...string) {
		t.Helper()
		topic, err := b.sentiment(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(topic.Records) != len(wants) {
			t.Fatalf("%d records, want %d", len(topic.Records), len(wants))
		}
		for i, record := range topic.Records {
			if record.Name != "quality.rt-polarity."+wants[i] || record.N != sentimentFolds || record.Value < 0.9 || record.Low > record.Value {
				t.Errorf("record %+v, want %s of at least 0.9", record, wants[i])
			}
		}
	}
	check("bag-of-words.accuracy")
	was := sentimentOptions
	t.Cleanup(func() { sentimentOptions = was })
	sentimentOptions.Epochs, sentimentOptions.LearningRate = 3, 0.01 // so small a network learns at a high rate
	writeToyEncoder(t, filepath.Join(b.shared, "models", "all-MiniLM-L6-v2"), 5)
	check("bag-of-words.accuracy", "frozen.accuracy", "accuracy")
	// All folds are kept, so nothing is computed any more.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	topic, err := b.sentiment(ctx)
	if err != nil || len(topic.Records) != 3 {
		t.Errorf("again: %d records, %v", len(topic.Records), err)
	}
	topic.Name = "sentiment"
	if err := topic.Write(t.TempDir()); err != nil {
		t.Error(err)
	}
	if slices.ContainsFunc(topic.Records, func(r results.Record) bool { return !strings.Contains(r.Note, "folds: ") }) {
		t.Error("a note does not list the folds")
	}
	// With another encoder its folds are not those that are kept.
	writeToyEncoder(t, filepath.Join(b.shared, "models", "all-MiniLM-L6-v2"), 6)
	if topic, err := b.sentiment(ctx); !errors.Is(err, context.Canceled) || len(topic.Records) != 1 {
		t.Errorf("another encoder: %d records, %v; want that of the words, and the context's error", len(topic.Records), err)
	}
}
