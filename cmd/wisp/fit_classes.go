package main

import (
	"context"
	"crypto/sha256"
	"encoding/csv"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/text/encoding/charmap"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

func newFitClasses() *cobra.Command {
	var r classesRun
	c := &cobra.Command{
		Use:   "fit-classes CLASS=FILE... | TABLE",
		Short: "Fit what sorts texts into classes, such as their sentiment",
		Long: `Fits a head that sorts texts into classes to a text encoder, which stays as it is:
logistic regression on the vectors of texts whose classes are known. wisp compress puts it
into an artefact with that encoder, which then says how likely a text is of each class.

Texts are in a file for each class, one a line, or in a table, .csv or .tsv, with the
columns label and text named in its first line. They are UTF-8, or with --latin1 Latin-1.

A tenth of the texts, drawn by lot, chooses the weight of L2 where --l2 does not say it;
all of them are fitted to in the end.`,
		Example: `  wisp fit-classes negative=rt-polarity.neg positive=rt-polarity.pos --latin1 --encoder built-in --out sentiment.safetensors
  wisp fit-classes reviews.csv --encoder all-MiniLM-L6-v2 --out sentiment.safetensors
  wisp compress model --data prepared --encoder built-in --classes sentiment.safetensors --out films.wisp
  wisp recommend films.wisp --classify "what a film"`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(r.out); err != nil {
				return err
			}
			names := slices.Clone(args)
			for i, a := range names { // files by their names
				if class, path, ok := strings.Cut(a, "="); ok {
					names[i] = class + "=" + filepath.Base(path)
				}
			}
			r.command = commandLine(cmd, names)
			s, classes, err := readTexts(args, r.latin1)
			if err != nil {
				return err
			}
			fit, err := r.run(cmd.Context(), s, classes, newProgress(cmd))
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s; %.4f of %d texts that were held back are right, with a weight of L2 of %g\n", r.out, strings.Join(classes, ", "), fit.Accuracy, fit.Texts, fit.L2)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&r.encoder, "encoder", "", "text encoder: a folder"+orBuiltin)
	f.StringVar(&r.out, "out", "", "the `file` to write")
	f.BoolVar(&r.latin1, "latin1", false, "the texts are Latin-1, not UTF-8")
	f.Float64Var(&r.l2, "l2", 0, fmt.Sprintf("weight of the squared weights (default: the best of %v)", classesL2))
	f.Uint64Var(&r.seed, "seed", 1, "seed of the lot that holds texts back")
	required(c, "encoder", "out")
	return c
}

// classesL2 are the weights of L2 that are tried.
var classesL2 = []float64{1e-6, 1e-5, 1e-4, 1e-3}

// classesRun fits one head of classes of texts.
type classesRun struct {
	encoder, out, command string
	latin1                bool
	l2                    float64
	seed                  uint64
}

// classesFit says how a head of classes was found.
type classesFit struct {
	L2       float64 `json:"l2"`
	Accuracy float64 `json:"accuracy"` // on the texts that were held back
	Texts    int     `json:"texts"`    // of them
}

// run fits a head to texts of named classes and writes it.
func (r *classesRun) run(ctx context.Context, s *sentences, names []string, p *progress) (classesFit, error) {
	var fit classesFit
	tok, m, err := loadEncoder(r.encoder)
	if err != nil {
		return fit, err
	}
	vectors, err := embed(ctx, tok, m, "the classes", len(s.texts), func(i int) string { return s.texts[i] }, p)
	if err != nil {
		return fit, err
	}
	parts, err := eval.Folds(len(s.texts), sentimentFolds, r.seed)
	if err != nil {
		return fit, fmt.Errorf("%d texts are too few: %w", len(s.texts), err)
	}
	held, rest := divide(parts, 0)
	weights := classesL2
	if r.l2 != 0 {
		weights = []float64{r.l2}
	}
	fit.Texts = len(held)
	d := m.Config.Dim
	if fit.L2, fit.Accuracy, err = bestL2(weights, pick(s.classes, held), func(l2 float64) ([]int, error) {
		l, err := fitLogistic(ctx, denseRows(vectors.Data, d, rest), pick(s.classes, rest), l2)
		if err != nil {
			return nil, err
		}
		return l.predict(denseRows(vectors.Data, d, held)), nil
	}); err != nil {
		return fit, err
	}
	all := make([]int, len(s.texts))
	for i := range all {
		all[i] = i
	}
	l, err := fitLogistic(ctx, denseRows(vectors.Data, d, all), s.classes, fit.L2)
	if err != nil {
		return fit, err
	}
	metadata, err := headOrigin{Encoder: encoderOnly(tok, m), Options: map[string]any{"l2": fit.L2}, Fit: fit, Wisp: version(), Command: r.command}.metadata()
	if err != nil {
		return fit, err
	}
	return fit, model.SaveTextClasses(r.out, l.head(names, d), metadata)
}

// bestL2 returns the first of the weights whose predictions of classes are right most
// often, and how often that is.
func bestL2(weights []float64, classes []int, predict func(l2 float64) ([]int, error)) (best, accuracy float64, err error) {
	accuracy = -1
	for _, w := range weights {
		predicted, err := predict(w)
		if err != nil {
			return 0, 0, err
		}
		a, err := eval.ClassAccuracy(predicted, classes)
		if err != nil {
			return 0, 0, err
		}
		if a.Value > accuracy {
			best, accuracy = w, a.Value
		}
	}
	return best, accuracy, nil
}

// head returns l as the head of an encoder of width dim.
func (l *logistic) head(names []string, dim int) *model.TextClasses {
	h := &model.TextClasses{Names: names, Weight: model.NewTensor(len(names), dim), Bias: make([]float32, len(names))}
	for k := 1; k < len(names); k++ {
		w := l.weights[(k-1)*(dim+1):][:dim+1]
		for j, v := range w[:dim] {
			h.Weight.Row(k)[j] = float32(v)
		}
		h.Bias[k] = float32(w[dim])
	}
	return h
}

// encoderOnly identifies a text encoder by what it computes with.
func encoderOnly(tok *tokenize.Tokenizer, m *model.TextModel) string {
	return encoderDigest(tok, m, &data.Dataset{})
}

// loadClasses reads a head that wisp fit-classes wrote, which must be of an encoder, and
// the command that made it.
func loadClasses(path string, tok *tokenize.Tokenizer, m *model.TextModel) (*model.TextClasses, string, error) {
	h, metadata, err := model.LoadTextClasses(path)
	if err != nil {
		return nil, "", fmt.Errorf("%w; make one with wisp fit-classes", err)
	}
	f, err := readOrigin(path, metadata)
	if err != nil {
		return nil, "", err
	}
	if f.Encoder != encoderOnly(tok, m) {
		return nil, "", fmt.Errorf("the classes in %s are of another text encoder than that of --encoder: fit them again with wisp fit-classes", path)
	}
	return h, f.Command, nil
}

// readTexts reads texts of classes: CLASS=FILE for each, or one table. The classes are
// named in the order in which they come.
func readTexts(args []string, latin1 bool) (*sentences, []string, error) {
	s := &sentences{}
	h := sha256.New()
	var classes []string
	defer func() { s.digest = fmt.Sprintf("%x", h.Sum(nil)) }()
	if ext := filepath.Ext(args[0]); len(args) == 1 && !strings.Contains(args[0], "=") && (ext == ".csv" || ext == ".tsv") {
		var err error
		classes, err = s.readTable(args[0], ext, latin1, h)
		if err != nil {
			return nil, nil, err
		}
	} else {
		for _, a := range args {
			class, path, ok := strings.Cut(a, "=")
			if !ok || class == "" || path == "" {
				return nil, nil, fmt.Errorf("%q is not of the form CLASS=FILE, nor the only table, .csv or .tsv", a)
			}
			if slices.Contains(classes, class) {
				return nil, nil, fmt.Errorf("the class %q is there twice: give one file for each", class)
			}
			if err := s.readLines(path, len(classes), latin1, h); err != nil {
				return nil, nil, err
			}
			classes = append(classes, class)
		}
	}
	if len(classes) < 2 || len(classes) > layout.MaxClasses {
		return nil, nil, fmt.Errorf("texts of %d classes; it takes 2 to %d", len(classes), layout.MaxClasses)
	}
	return s, classes, nil
}

// readLines adds the texts in a file, one a line, which are of one class.
func (s *sentences) readLines(path string, class int, latin1 bool, h hash.Hash) error {
	text, err := readDecoded(path, latin1, h)
	if err != nil {
		return err
	}
	before := len(s.texts)
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			s.texts, s.classes = append(s.texts, line), append(s.classes, class)
		}
	}
	if len(s.texts) == before {
		return fmt.Errorf("%s has no texts", path)
	}
	return nil
}

// readTable adds the texts of a table with the columns label and text, and returns the
// labels.
func (s *sentences) readTable(path, ext string, latin1 bool, h hash.Hash) ([]string, error) {
	text, err := readDecoded(path, latin1, h)
	if err != nil {
		return nil, err
	}
	r := csv.NewReader(strings.NewReader(text))
	if ext == ".tsv" {
		r.Comma, r.LazyQuotes = '\t', true
	}
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	label, content := slices.Index(head, "label"), slices.Index(head, "text")
	if label < 0 || content < 0 {
		return nil, fmt.Errorf("%s: its first line is %q; it must name the columns label and text", path, head)
	}
	var classes []string
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if row[label] == "" {
			line, _ := r.FieldPos(label)
			return nil, fmt.Errorf("%s: line %d has no label", path, line)
		}
		class := slices.Index(classes, row[label])
		if class < 0 {
			class = len(classes)
			classes = append(classes, row[label])
		}
		s.texts, s.classes = append(s.texts, row[content]), append(s.classes, class)
	}
	return classes, nil
}

// readDecoded reads a text file and adds its bytes to a digest.
func readDecoded(path string, latin1 bool, h hash.Hash) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	h.Write(raw)
	h.Write([]byte{0})
	if !latin1 && !utf8.Valid(raw) {
		return "", fmt.Errorf("%s is not UTF-8: convert it, or say --latin1 where it is that", path)
	}
	if latin1 {
		if raw, err = charmap.ISO8859_1.NewDecoder().Bytes(raw); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return string(raw), nil
}
