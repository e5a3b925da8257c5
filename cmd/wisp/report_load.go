package main

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
	"github.com/wisp-project/wisp/quantize"
	"github.com/wisp-project/wisp/quantize/report"
)

// reportInput is what a report measures.
type reportInput struct {
	ds       *data.Dataset
	split    *data.Split
	subjects []subject // first the teacher
	threads  []int
	round    time.Duration
	meter    *report.Meter // nil where energy cannot be measured
	notes    []string
}

// subject is one model that is measured.
type subject struct {
	report.Model
	// worker returns what asks and scores for one thread.
	worker func() (stage, error)
	// macs counts the request of a case.
	macs func(c data.Case) quantize.MACs
	// of an artefact, the float32 model it was made of and its image; else nil
	source *model.Model
	image  *layout.Image
	close  func(context.Context) error
}

// close ends the runtimes.
func (in *reportInput) close(ctx context.Context) {
	for _, s := range in.subjects {
		if s.close != nil {
			_ = s.close(ctx) // nothing is asked of it any more
		}
	}
}

// load opens what a report measures.
func (b *reportBuild) load(ctx context.Context, p *progress) (_ *reportInput, err error) {
	in := &reportInput{threads: b.threads, round: b.round}
	if len(in.threads) == 0 {
		in.threads = powersOfTwo(runtime.GOMAXPROCS(0))
	}
	slices.Sort(in.threads)
	in.threads = slices.Compact(in.threads)
	if in.threads[0] < 1 || b.round <= 0 || b.cases < 0 {
		return nil, fmt.Errorf("--threads %v, --round %v, --cases %d: want at least one thread, and no less than nothing of the others", b.threads, b.round, b.cases)
	}
	p.stage("loading", 0, 0)
	ds, fingerprint, err := loadData(b.data)
	if err != nil {
		return nil, err
	}
	in.ds = ds
	defer func() {
		if err != nil {
			in.close(context.WithoutCancel(ctx))
		}
	}()
	sources := map[string]*model.Model{} // by the digest of their files
	if b.ensemble != "" {
		s, err := ensembleSubject(b.ensemble, in, fingerprint)
		if err != nil {
			return nil, err
		}
		in.subjects = append(in.subjects, s)
	}
	dirs := b.students
	if b.model != "" {
		dirs = append([]string{b.model}, dirs...)
	}
	for _, dir := range dirs {
		m, t, err := loadModel(dir)
		if err != nil {
			return nil, err
		}
		if err := t.fits(m, ds, fingerprint); err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		isTeacher := len(in.subjects) == 0
		if isTeacher {
			if in.split, err = split(ds, t.Protocol); err != nil {
				return nil, err
			}
		} else if t.Protocol != in.split.Protocol {
			return nil, fmt.Errorf("%s was trained for the split %q, the teacher for %q; they have no test cases in common", dir, t.Protocol, in.split.Protocol)
		}
		digest, err := fileDigest(filepath.Join(dir, modelFile))
		if err != nil {
			return nil, err
		}
		sources[digest] = m
		s, err := b.float32Subject(dir, m, t, in, isTeacher)
		if err != nil {
			return nil, err
		}
		in.subjects = append(in.subjects, s)
	}
	for _, path := range b.artefacts {
		s, err := b.artefactSubject(ctx, path, in, sources)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		in.subjects = append(in.subjects, s)
	}
	if len(in.split.Test) == 0 {
		return nil, fmt.Errorf("no test cases: no user has %d events", minEvents)
	}
	if b.cases > 0 && b.cases < len(in.split.Test) {
		in.split.Test = in.split.Test[:b.cases]
	}
	in.distinctNames()
	var why error
	if in.meter, why = report.OpenMeter(report.Powercap); why != nil {
		in.notes = append(in.notes, "Energy is estimated from core time: the processor's energy counters (RAPL) cannot be read here, which takes Linux on the machine itself and usually root.")
	}
	return in, nil
}

// powersOfTwo returns 1, 2, 4 and so on up to n, and n.
func powersOfTwo(n int) []int {
	var all []int
	for i := 1; i < n; i *= 2 {
		all = append(all, i)
	}
	return append(all, n)
}

// distinctNames adds numbers to names that occur twice.
func (in *reportInput) distinctNames() {
	seen := map[string]int{}
	for i := range in.subjects {
		s := &in.subjects[i]
		if seen[s.Name]++; seen[s.Name] > 1 {
			s.Name = fmt.Sprintf("%s (%d)", s.Name, seen[s.Name])
		}
	}
}

// float32Subject is a model in full precision, the teacher or a student.
func (b *reportBuild) float32Subject(dir string, m *model.Model, t training, in *reportInput, isTeacher bool) (subject, error) {
	s := subject{Model: report.Model{Name: filepath.Base(filepath.Clean(dir)), Kind: report.KindStudent, Precision: "float32"}}
	if isTeacher {
		s.Name, s.Kind = teacherStage, report.KindTeacher
	}
	s.Parameters, s.MemoryBytes = float32Size(m, t)
	files := []string{filepath.Join(dir, modelFile)}
	if t.FeaturesFile != "" {
		files = append(files, filepath.Join(dir, filepath.Base(t.FeaturesFile)))
	}
	for _, f := range files {
		n, err := fileSize(f)
		if err != nil {
			return s, err
		}
		s.DiskBytes += n
	}
	if err := b.addEncoder(&s, t, in, isTeacher); err != nil {
		return s, err
	}
	s.macs = func(c data.Case) quantize.MACs { return quantize.ModelMACs(m.Config, len(c.History)) }
	s.worker = func() (stage, error) {
		scorer := hostgpu.NewScorer(s.Name, m).WithDescriptions(t.users)
		return stage{scorer: scorer, request: top10(scorer, m.Config.Items)}, nil
	}
	return s, nil
}

// addEncoder counts the text encoder with the teacher that was trained with it.
func (b *reportBuild) addEncoder(s *subject, t training, in *reportInput, isTeacher bool) error {
	switch {
	case !isTeacher:
		return nil
	case b.encoder == "" && t.Vectors.Encoder != "":
		in.notes = append(in.notes, "The text encoder that the teacher was trained with is not counted with it: give it with --encoder.")
		return nil
	case b.encoder == "":
		return nil
	}
	tok, encoder, err := loadEncoder(b.encoder)
	if err != nil {
		return err
	}
	if t.EncoderDigest == "" || encoderDigest(tok, encoder, in.ds) != t.EncoderDigest {
		return fmt.Errorf("%s is not the encoder that made the teacher's vectors; give that one, or none", b.encoder)
	}
	var n int64
	for _, w := range encoder.Weights {
		n += int64(len(w.Data))
	}
	s.Parameters += n
	s.DiskBytes += 4 * n // in float32, whatever the precision of the file
	s.MemoryBytes += 4 * n
	tokens := medianTokens(tok, in.ds, encoder.Config.MaxTokens)
	macs := quantize.TextMACs(encoder.Config, tokens)
	s.Text = &report.Text{Tokens: tokens, MACs: macs, Total: macs.Total()}
	return nil
}

// medianTokens is the number of tokens of the item text in the middle.
func medianTokens(tok *tokenize.Tokenizer, ds *data.Dataset, most int) int {
	text, n := itemTexts(ds), make([]int, len(ds.Items))
	for i := range n {
		n[i] = len(tok.Encode(nil, text(i), most))
	}
	slices.Sort(n)
	return n[len(n)/2]
}

// artefactSubject is an artefact in sandboxes.
func (b *reportBuild) artefactSubject(ctx context.Context, path string, in *reportInput, sources map[string]*model.Model) (subject, error) {
	a, err := artifact.Open(path, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return subject{}, withRemedy(err)
	}
	image, err := a.Image()
	if err != nil {
		return subject{}, err
	}
	size, err := fileSize(path)
	if err != nil {
		return subject{}, err
	}
	r, err := edge.New(ctx, a, edge.Options{AllowUnsigned: true, Sandboxes: slices.Max(in.threads)})
	if err != nil {
		return subject{}, err
	}
	box, err := newSandbox(r, in.ds)
	if err != nil {
		_ = r.Close(ctx)
		return subject{}, err
	}
	shape := image.Shape
	s := subject{
		Model: report.Model{
			Name: filepath.Base(path), Kind: report.KindArtefact, Precision: "int8", Parameters: quantize.Parameters(shape),
			DiskBytes: size, MemoryBytes: int64(image.Map.End), SandboxBytes: int64(image.Map.End - image.Map.Scratch),
		},
		worker: func() (stage, error) { return stage{scorer: box, request: box.recommend}, nil },
		image:  image, close: r.Close,
	}
	s.macs = func(c data.Case) quantize.MACs { return quantize.RequestMACs(shape, len(c.History)) }
	if shape.Text.Dim > 0 {
		if err := s.readsTexts(image, box, in.ds); err != nil {
			_ = r.Close(ctx)
			return s, err
		}
	}
	if a.Manifest.Provenance != nil {
		for _, from := range a.Manifest.Provenance.Sources {
			s.source = cmp.Or(s.source, sources[from.SHA256])
		}
	}
	if s.source == nil {
		in.notes = append(in.notes, fmt.Sprintf("The layers of %s are not compared: it does not say that it was made of a model of this report. Give that with --student.", s.Name))
	}
	s.Network, err = b.network(a)
	return s, err
}

// readsTexts counts what an image with a text encoder does with texts: one of the
// items' by itself, and the user's description in each request that has one.
func (s *subject) readsTexts(image *layout.Image, box *sandbox, ds *data.Dataset) error {
	p, shape := image.Params(), image.Shape
	tok, err := tokenize.OpenPacked(p.Text.Tokenizer)
	if err != nil {
		return err
	}
	tokens := medianTokens(tok, ds, shape.Text.Tokens)
	macs := quantize.EncoderMACs(shape.Text, tokens)
	s.Text = &report.Text{Tokens: tokens, MACs: macs, Total: macs.Total(), EachAnswer: shape.Text.UserMap}
	if !shape.Text.UserMap {
		return nil
	}
	s.macs = func(c data.Case) quantize.MACs {
		m := quantize.RequestMACs(shape, len(c.History))
		description := layout.CutText(box.description(c.User))
		if description == "" {
			return m
		}
		text := quantize.EncoderMACs(shape.Text, len(tok.Encode(nil, description, shape.Text.Tokens)))
		m.Linear += text.Linear + int64(shape.Dim)*int64(shape.Text.Dim)
		m.Attention += text.Attention
		return m
	}
	return nil
}

// network says what travels: the whole file, and updates to those who hold the
// sections that did not change.
func (b *reportBuild) network(a *artifact.Artifact) (*report.Network, error) {
	n := &report.Network{}
	for _, s := range a.Sections {
		n.Sections = append(n.Sections, report.Section{Name: sectionName(s), Stored: s.Stored, Raw: s.Raw})
	}
	update := func(what string, changed func(artifact.SectionInfo) bool) {
		u := report.Update{What: what, Bytes: artifact.HeadBytes(len(a.Sections))}
		for _, s := range a.Sections {
			if changed(s) {
				u.Bytes += s.Stored
				u.Sections = append(u.Sections, sectionName(s))
			}
		}
		n.Updates = append(n.Updates, u)
	}
	among := func(names ...string) func(artifact.SectionInfo) bool {
		return func(s artifact.SectionInfo) bool { return slices.Contains(names, sectionName(s)) }
	}
	// A header, a manifest and goldens change with anything.
	always := []string{"manifest", "golden", "header"}
	update("new items", among(append(always, "items", "texts", "catalogue")...))
	update("trained anew", among(append(always, "items", "user")...))
	if b.previous == "" {
		return n, nil
	}
	old, err := artifact.Open(b.previous, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		return nil, withRemedy(err)
	}
	update("from "+filepath.Base(b.previous), func(s artifact.SectionInfo) bool {
		return !slices.ContainsFunc(old.Sections, func(o artifact.SectionInfo) bool { return o.Digest == s.Digest && o.Stored == s.Stored })
	})
	return n, nil
}

// sectionName is how a report calls a section; the catalogue is apart from the
// segment of the items' vectors.
func sectionName(s artifact.SectionInfo) string {
	switch s.Type {
	case artifact.SectionItems:
		return "catalogue"
	case artifact.SectionSegment:
		return s.Name
	default:
		return strings.ToLower(s.Type.String())
	}
}
