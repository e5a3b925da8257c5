package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/edge"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/model"
)

// described trains a model that knows items and users by an encoder alone, has it
// listen to descriptions more than it learnt to, and packs both into an artefact.
func described(t *testing.T, prepared, encoder string) (dir, artefact string) {
	t.Helper()
	dir, artefact = filepath.Join(t.TempDir(), "model"), filepath.Join(t.TempDir(), "made.wisp")
	succeed(t, quickTrain(prepared, dir, "--features", "0", "--encoder", encoder, "--descriptions")...)
	rewrite(t, dir, func(m *model.Model, _ *training) {
		for i := range m.Weights[model.UserDescription].Data {
			m.Weights[model.UserDescription].Data[i] *= 100
		}
	})
	// Where the encoder lies is nobody's business, what it is is.
	moved := filepath.Join(t.TempDir(), "moved")
	if err := os.CopyFS(moved, os.DirFS(encoder)); err != nil {
		t.Fatal(err)
	}
	stdout := succeed(t, "compress", dir, "--data", prepared, "--encoder", moved, "--out", artefact)
	var written, before int64
	last := strings.Split(strings.TrimSpace(stdout), "\n")
	if _, err := fmt.Sscanf(last[len(last)-1], artefact+": %d bytes, kernel and catalogue included; the float32 weights have %d", &written, &before); err != nil {
		t.Errorf("compress ends with %q: %v", last[len(last)-1], err)
	}
	if written != int64(len(get(t, artefact))) || before <= int64(len(get(t, filepath.Join(dir, modelFile)))) {
		t.Errorf("compress says %d bytes, of %d with the encoder's", written, before)
	}
	return dir, artefact
}

// TestCompressText takes an artefact with a text encoder through the commands.
func TestCompressText(t *testing.T) {
	c := madeChain(t)
	encoder := tinyEncoder(t, c.prepared)
	dir, artefact := described(t, c.prepared, encoder)

	a, err := artifact.Open(artefact, artifact.ReadOptions{AllowUnsigned: true})
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	want := artifact.TextInfo{
		Vocabulary: m.Config.Vocabulary, Tokens: 48, Dim: 16, Layers: 2, Heads: 2, FFN: 32, ItemMap: true, UserMap: true, ItemTexts: true,
	}
	if a.Manifest.Model.Text != want {
		t.Errorf("the manifest states %+v, want %+v", a.Manifest.Model.Text, want)
	}
	stdout := succeed(t, "inspect", artefact)
	for _, words := range []string{
		fmt.Sprintf("text encoder: %d tokens, width 16, 2 layers of 2 heads, feed-forward 32, texts of up to 48 tokens", want.Vocabulary),
		"finds items, places new items, reads descriptions of users", "tokenizer", "texts",
	} {
		if !strings.Contains(stdout, words) {
			t.Errorf("inspect does not say %q:\n%s", words, stdout)
		}
	}
	if stdout := succeed(t, "inspect", c.artefact); strings.Contains(stdout, "text encoder") {
		t.Errorf("inspect finds a text encoder where there is none:\n%s", stdout)
	}

	by := map[string]figures{}
	path := filepath.Join(t.TempDir(), "figures.json")
	succeed(t, "eval", "--data", c.prepared, "--model", dir, "--artefact", artefact, "--json", path)
	var rows []figures
	if err := json.Unmarshal(get(t, path), &rows); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		by[r.Stage] = r
	}
	plain, sandboxed := by[int8Stage], by[sandboxStage]
	plain.Stage, plain.Bytes, plain.P50 = sandboxed.Stage, sandboxed.Bytes, sandboxed.P50
	if plain != sandboxed {
		t.Errorf("int8 in plain Go and in the sandbox differ:\n%+v\n%+v", plain, sandboxed)
	}
	if want := by[teacherStage].MRR.Value; sandboxed.MRR.Value < 0.9*want || sandboxed.MRR.Value > 1.1*want {
		t.Errorf("int8 has MRR %.4f, the teacher %.4f", sandboxed.MRR.Value, want)
	}
}

// TestDescribedStages compares the scores of the stages, with descriptions and
// without.
func TestDescribedStages(t *testing.T) {
	c := madeChain(t)
	dir, artefact := described(t, c.prepared, tinyEncoder(t, c.prepared))
	m, trained, ds, s, err := trained(dir, c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	stages, r, err := artefactStages(t.Context(), artefact, ds)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close(t.Context()) //nolint:errcheck // nothing is in progress
	scores := func(st stage, c data.Case) []float32 {
		dst := make([]float32, len(ds.Items))
		if err := st.scorer.Scores(t.Context(), dst, c.User, c.History); err != nil {
			t.Fatal(err)
		}
		return dst
	}
	distance := func(a, b []float32) (d float64) {
		for i := range a {
			d += float64((a[i] - b[i]) * (a[i] - b[i]))
		}
		return d
	}
	for _, c := range s.Test[:20] {
		with, without := scores(teacher(m, trained.users), c), scores(teacher(m, nil), c)
		int8s, sandboxed := scores(stages[0], c), scores(stages[1], c)
		if !slices.Equal(int8s, sandboxed) {
			t.Errorf("user %d: int8 in plain Go and in the sandbox differ", c.User)
		}
		if near, far := distance(int8s, with), distance(int8s, without); near > far/4 {
			t.Errorf("user %d: int8 is %v from the described teacher, %v from the one who knows nothing", c.User, near, far)
		}
	}
}

// TestRecommendText searches, and describes users.
func TestRecommendText(t *testing.T) {
	c := madeChain(t)
	_, artefact := described(t, c.prepared, tinyEncoder(t, c.prepared))
	ds, err := data.Load(c.prepared)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 77, 149} {
		r := recommend(t, artefact, "--text", data.ItemText(&ds.Items[i]), "-k", "5")
		found := slices.IndexFunc(r.Items, func(item edge.Recommendation) bool { return item.Item == ds.Items[i].ID })
		if len(r.Items) != 5 || r.ColdStart || found < 0 || r.Items[found].Score < 0.98 {
			t.Errorf("the text of %s finds %+v", ds.Items[i].ID, r)
		}
	}
	cold := recommend(t, artefact)
	says := func(u int) string { return data.UserText(&ds.Users[u]) }
	u := slices.IndexFunc(ds.Users, func(u data.User) bool { return u.ID == "u000002" })
	of := recommend(t, artefact, "--description", says(u))
	if !of.ColdStart || reflect.DeepEqual(of.Items, cold.Items) {
		t.Errorf("%q changes nothing: %+v", says(u), of)
	}
	if text := succeed(t, "recommend", artefact, "--description", says(u)); !strings.HasPrefix(text, "of this user only the description is known:\n") {
		t.Errorf("the cold start goes unsaid:\n%s", text)
	}
	// What the data say of the user counts beside the events, unless something
	// else is said.
	known := recommend(t, artefact, "--data", c.prepared, "--user", "u000002")
	events := strings.Join(history(t, c.prepared, "u000002"), ",")
	if same := recommend(t, artefact, "--data", c.prepared, "--user", "u000002", "--description", says(u)); !reflect.DeepEqual(same.Items, known.Items) {
		t.Errorf("the description of the data is not read: %+v, want %+v", known, same)
	}
	other := slices.IndexFunc(ds.Users, func(o data.User) bool { return data.UserText(&o) != says(u) })
	if r := recommend(t, artefact, "--data", c.prepared, "--user", "u000002", "--description", says(other)); reflect.DeepEqual(r.Items, known.Items) {
		t.Error("another description changes nothing")
	}
	if r := recommend(t, artefact, "--history", events); reflect.DeepEqual(r.Items, known.Items) {
		t.Error("the description of the data changes nothing")
	}

	fail(t, []string{"--text", "--user"}, "recommend", artefact, "--text", "a", "--history", "i00001")
	fail(t, []string{"--text", "--explain"}, "recommend", artefact, "--text", "a", "--explain")
	fail(t, []string{"compress --encoder"}, "recommend", c.artefact, "--text", "a")
	fail(t, []string{"compress --encoder"}, "recommend", c.artefact, "--description", "a")
}

// TestCompressTextRefuses gives models and encoders that do not go together.
func TestCompressTextRefuses(t *testing.T) {
	c := madeChain(t)
	encoder, out := tinyEncoder(t, c.prepared), filepath.Join(t.TempDir(), "made.wisp")
	train := func(more ...string) string {
		dir := filepath.Join(t.TempDir(), "model")
		succeed(t, quickTrain(c.prepared, dir, append([]string{"--epochs", "1"}, more...)...)...)
		return dir
	}
	alone := train("--features", "0", "--encoder", encoder)
	other := filepath.Join(t.TempDir(), "other")
	tuned := train("--features", "0", "--encoder", encoder, "--tune-encoder", "--encoder-lr", "0.01", "--encoder-frozen-layers", "-1", "--encoder-every", "2")
	both := train("--features", "0", "--encoder", encoder, "--descriptions", "--tune-encoder")
	old := train("--features", "0", "--encoder", encoder)
	rewrite(t, old, func(_ *model.Model, how *training) { how.EncoderDigest = "" })
	m, err := model.LoadText(encoder)
	if err != nil {
		t.Fatal(err)
	}
	m.Weights[model.TextWord].Data[70] += 1e-3
	if err := model.SaveText(other, m, encoder); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dir, encoder string
		says         []string
	}{
		"words beside it":   {train("--encoder", encoder), encoder, []string{"TF-IDF", "--features 0 --encoder " + encoder}},
		"words alone":       {c.model, encoder, []string{"TF-IDF", "--features 0 --encoder " + encoder}},
		"another encoder":   {alone, other, []string{other + " is not the encoder", encoder}},
		"before its tuning": {tuned, encoder, []string{encoder + " is not the encoder", filepath.Join(tuned, encoderFolder)}},
		"two encoders":      {both, encoder, []string{"room for one", "without --tune-encoder"}},
		"not said which":    {old, encoder, []string{"which encoder", "train it again"}},
		"not there":         {alone, out, []string{out}},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, test.says, "compress", test.dir, "--data", c.prepared, "--encoder", test.encoder, "--out", out)
			if _, err := os.Stat(out); err == nil {
				t.Error("it left an artefact")
			}
		})
	}
	succeed(t, "compress", tuned, "--data", c.prepared, "--encoder", filepath.Join(tuned, encoderFolder), "--out", out)
}

// rewrite changes the model in dir.
func rewrite(t *testing.T, dir string, change func(*model.Model, *training)) {
	t.Helper()
	m, how, err := loadModel(dir)
	if err != nil {
		t.Fatal(err)
	}
	given, err := loadVectors(dir, how.FeaturesFile, m.Config)
	if err != nil {
		t.Fatal(err)
	}
	change(m, &how)
	if err := saveModel(dir, m, given, how); err != nil {
		t.Fatal(err)
	}
}
