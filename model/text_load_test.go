package model_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// folder is a Hugging Face folder that a test can spoil before it is written.
type folder struct {
	files   map[string]string
	tensors map[string]*model.Tensor // in model.safetensors
}

func (f folder) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range f.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if f.tensors != nil {
		if err := model.SaveTensors(filepath.Join(dir, "model.safetensors"), f.tensors, nil); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// bertNames maps the parts of our names to those of BERT.
var bertNames = strings.NewReplacer(
	"text.embed.word", "embeddings.word_embeddings", "text.embed.position", "embeddings.position_embeddings",
	"text.embed.type", "embeddings.token_type_embeddings", "text.embed.norm", "embeddings.LayerNorm",
	"text.layer", "encoder.layer", "attn.q", "attention.self.query", "attn.k", "attention.self.key", "attn.v", "attention.self.value",
	"attn.o", "attention.output.dense", "attn.norm", "attention.output.LayerNorm",
	"ffn.up", "intermediate.dense", "ffn.down", "output.dense", "ffn.norm", "output.LayerNorm",
)

// distilNames maps the parts of our names to those of DistilBERT.
var distilNames = strings.NewReplacer(
	"text.embed.word", "embeddings.word_embeddings", "text.embed.position", "embeddings.position_embeddings", "text.embed.norm", "embeddings.LayerNorm",
	"text.layer", "transformer.layer", "attn.q", "attention.q_lin", "attn.k", "attention.k_lin", "attn.v", "attention.v_lin",
	"attn.o", "attention.out_lin", "attn.norm", "sa_layer_norm",
	"ffn.up", "ffn.lin1", "ffn.down", "ffn.lin2", "ffn.norm", "output_layer_norm",
)

const (
	bertConfig = `{"model_type":"bert","vocab_size":11,"max_position_embeddings":9,"type_vocab_size":2,"hidden_size":8,
		"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":12,"hidden_act":"gelu","layer_norm_eps":1e-12}`
	distilConfig = `{"model_type":"distilbert","vocab_size":11,"max_position_embeddings":9,"dim":8,"n_layers":2,"n_heads":2,
		"hidden_dim":12,"activation":"gelu"}`
	sentenceModules = `[{"type":"sentence_transformers.models.Transformer","path":""},
		{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"},
		{"type":"sentence_transformers.models.Normalize","path":"2_Normalize"}]`
	meanPooling = `{"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":false}`
)

// bertFolder is a whole folder for weights w, as sentence-transformers writes it.
func bertFolder(w model.Weights) folder {
	f := folder{tensors: map[string]*model.Tensor{}, files: map[string]string{
		"config.json": bertConfig, "modules.json": sentenceModules, "1_Pooling/config.json": meanPooling,
		"sentence_bert_config.json": `{"max_seq_length":7}`,
	}}
	for name, t := range w {
		f.tensors[bertNames.Replace(name)] = t
	}
	return f
}

// renamed returns tensors under the names that rename gives them.
func renamed(tensors map[string]*model.Tensor, rename func(string) string) map[string]*model.Tensor {
	all := map[string]*model.Tensor{}
	for name, t := range tensors {
		all[rename(name)] = t
	}
	return all
}

// A masked-language head is read where it is whole, whatever the family calls it.
func TestLoadMaskedHead(t *testing.T) {
	c := tinyText()
	head := model.Weights{}
	for i, s := range c.MaskedSpecs() {
		x := model.NewTensor(s.Shape...)
		for j := range x.Data {
			x.Data[j] = float32(i) + float32(j)/8
		}
		head[s.Name] = x
	}
	bert := map[string]string{
		"mlm.transform.weight": "cls.predictions.transform.dense.weight", "mlm.transform.bias": "cls.predictions.transform.dense.bias",
		"mlm.norm.weight": "cls.predictions.transform.LayerNorm.gamma", "mlm.norm.bias": "cls.predictions.transform.LayerNorm.beta",
		"mlm.bias": "cls.predictions.bias",
	}
	distil := map[string]string{
		"mlm.transform.weight": "vocab_transform.weight", "mlm.transform.bias": "vocab_transform.bias",
		"mlm.norm.weight": "vocab_layer_norm.weight", "mlm.norm.bias": "vocab_layer_norm.bias", "mlm.bias": "vocab_projector.bias",
	}
	distilFolder := func() folder {
		f := folder{tensors: map[string]*model.Tensor{}, files: map[string]string{"config.json": distilConfig}}
		for name, x := range randomText(c, 1) {
			if name != model.TextType {
				f.tensors["distilbert."+distilNames.Replace(name)] = x
			}
		}
		return f
	}
	for name, test := range map[string]struct {
		folder folder
		names  map[string]string
		spoil  func(folder)
		want   model.Weights
		err    error
	}{
		"bert":       {folder: bertFolder(randomText(c, 1)), names: bert, want: head},
		"distilbert": {folder: distilFolder(), names: distil, want: head},
		"none":       {folder: bertFolder(randomText(c, 1))},
		"a part":     {folder: bertFolder(randomText(c, 1)), names: bert, spoil: func(f folder) { delete(f.tensors, bert["mlm.bias"]) }},
		"wrong shape": {folder: bertFolder(randomText(c, 1)), names: bert, spoil: func(f folder) {
			f.tensors[bert["mlm.bias"]] = model.NewTensor(c.Vocabulary + 1)
		}, err: model.ErrWeights},
	} {
		for ours, theirs := range test.names {
			test.folder.tensors[theirs] = head[ours]
		}
		if test.spoil != nil {
			test.spoil(test.folder)
		}
		m, err := model.LoadText(test.folder.write(t))
		if !errors.Is(err, test.err) {
			t.Errorf("%s: %v, want %v", name, err, test.err)
		}
		if err != nil {
			continue
		}
		if len(m.Masked) != len(test.want) || len(m.Weights) != len(m.Config.Specs()) {
			t.Errorf("%s: %d tensors and %d of a head", name, len(m.Weights), len(m.Masked))
		}
		for part, x := range test.want {
			if got := m.Masked[part]; got == nil || !slices.Equal(got.Shape, x.Shape) || !slices.Equal(got.Data, x.Data) {
				t.Errorf("%s: %s was not read as it is", name, part)
			}
		}
	}
}

func TestLoadText(t *testing.T) {
	w := randomText(tinyText(), 1)
	for name, test := range map[string]struct {
		change func(*folder)
		config func(*model.TextConfig)
	}{
		"as it is": {},
		"with a prefix, a head and old names of gains": {change: func(f *folder) {
			f.tensors = renamed(f.tensors, func(name string) string {
				return "bert." + strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta").Replace(name)
			})
			f.tensors["cls.predictions.bias"] = model.NewTensor(11)
		}},
		"in shards": {change: func(f *folder) {
			shards := [2]map[string]*model.Tensor{{}, {}}
			index := map[string]map[string]string{"weight_map": {}}
			for i, name := range slices.Sorted(maps.Keys(f.tensors)) {
				shards[i%2][name] = f.tensors[name]
				index["weight_map"][name] = fmt.Sprintf("model-0000%d-of-00002.safetensors", i%2+1)
			}
			f.tensors = nil
			for i, shard := range shards {
				var b strings.Builder
				if err := model.WriteTensors(&b, shard, nil); err != nil {
					t.Fatal(err)
				}
				f.files[fmt.Sprintf("model-0000%d-of-00002.safetensors", i+1)] = b.String()
			}
			text, err := json.Marshal(index)
			if err != nil {
				t.Fatal(err)
			}
			f.files["model.safetensors.index.json"] = string(text)
		}},
		"without sentence-transformers": {
			change: func(f *folder) {
				f.files = map[string]string{"config.json": bertConfig}
			},
			config: func(c *model.TextConfig) { c.MaxTokens, c.Normalise = 9, false },
		},
		"with the first token": {
			change: func(f *folder) {
				f.files["1_Pooling/config.json"] = `{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}`
			},
			config: func(c *model.TextConfig) { c.Pooling = model.PoolCLS },
		},
		"with the name of a pooling mode": {
			change: func(f *folder) { f.files["1_Pooling/config.json"] = `{"pooling_mode":"cls"}` },
			config: func(c *model.TextConfig) { c.Pooling = model.PoolCLS },
		},
		"with a limit beyond the positions": {
			change: func(f *folder) { f.files["sentence_bert_config.json"] = `{"max_seq_length":512}` },
			config: func(c *model.TextConfig) { c.MaxTokens = 9 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, want := bertFolder(w), tinyText()
			if test.change != nil {
				test.change(&f)
			}
			if test.config != nil {
				test.config(&want)
			}
			m, err := model.LoadText(f.write(t))
			if err != nil {
				t.Fatal(err)
			}
			if m.Config != want {
				t.Errorf("read %+v, want %+v", m.Config, want)
			}
			for name, x := range w {
				if !slices.Equal(m.Weights[name].Data, x.Data) {
					t.Errorf("tensor %q differs from the one that was written", name)
				}
			}
		})
	}
}

func TestLoadDistilBERT(t *testing.T) {
	c := tinyText()
	c.Types, c.MaxTokens, c.Normalise = 1, c.Positions, false
	w := randomText(c, 2)
	clear(w[model.TextType].Data)
	f := folder{files: map[string]string{"config.json": distilConfig}, tensors: map[string]*model.Tensor{}}
	for name, x := range w {
		if name != model.TextType {
			f.tensors["distilbert."+distilNames.Replace(name)] = x
		}
	}
	m, err := model.LoadText(f.write(t))
	if err != nil {
		t.Fatal(err)
	}
	if m.Config != c {
		t.Errorf("read %+v, want %+v", m.Config, c)
	}
	for name, x := range w {
		if !slices.Equal(m.Weights[name].Data, x.Data) {
			t.Errorf("tensor %q differs from the one that was written", name)
		}
	}
}

func TestLoadTextRefuses(t *testing.T) {
	config := func(old, replacement string) func(*folder) {
		return func(f *folder) { f.files["config.json"] = strings.Replace(bertConfig, old, replacement, 1) }
	}
	file := func(name, text string) func(*folder) {
		return func(f *folder) { f.files[name] = text }
	}
	const query = "encoder.layer.1.attention.self.query.weight"
	for name, test := range map[string]struct {
		spoil func(*folder)
		want  error
		says  []string
	}{
		"no config":            {func(f *folder) { delete(f.files, "config.json") }, os.ErrNotExist, []string{"config.json"}},
		"config that is none":  {file("config.json", "{"), model.ErrConfig, []string{"config.json"}},
		"config without width": {config(`"hidden_size":8`, `"x":1`), model.ErrConfig, []string{"config.json", "dim"}},
		"huge config":          {config(`"vocab_size":11`, `"vocab_size":99999999999`), model.ErrConfig, []string{"vocabulary"}},
		"roberta":              {config(`"bert"`, `"roberta"`), model.ErrUnsupported, []string{"config.json", `"roberta"`, "byte-level BPE"}},
		"mpnet":                {config(`"bert"`, `"mpnet"`), model.ErrUnsupported, []string{`"mpnet"`, "relative position bias"}},
		"unheard-of":           {config(`"bert"`, `"nobert"`), model.ErrUnsupported, []string{`"nobert"`}},
		"no model type":        {config(`"model_type":"bert",`, ``), model.ErrUnsupported, []string{"model_type"}},
		"relu":                 {config(`"gelu"`, `"relu"`), model.ErrUnsupported, []string{`"relu"`}},
		"relative positions":   {config(`{`, `{"position_embedding_type":"relative_key",`), model.ErrUnsupported, []string{"relative_key"}},
		"decoder":              {config(`{`, `{"is_decoder":true,`), model.ErrUnsupported, []string{"is_decoder"}},
		"modules that are none": {
			file("modules.json", "{}"), model.ErrConfig, []string{"modules.json"},
		},
		"dense module": {
			file("modules.json", `[{"type":"sentence_transformers.models.Dense","path":"2_Dense"}]`), model.ErrUnsupported, []string{"modules.json", "Dense"},
		},
		"module outside": {
			file("modules.json", `[{"type":"sentence_transformers.models.Pooling","path":"../x"}]`), model.ErrConfig, []string{"../x"},
		},
		"max pooling": {
			file("1_Pooling/config.json", `{"pooling_mode_mean_tokens":true,"pooling_mode_max_tokens":true}`), model.ErrUnsupported, []string{"1_Pooling", "max_tokens"},
		},
		"no pooling": {func(f *folder) { delete(f.files, "1_Pooling/config.json") }, os.ErrNotExist, []string{"1_Pooling"}},
		"limit of 0": {file("sentence_bert_config.json", `{"max_seq_length":0}`), model.ErrConfig, []string{"max_tokens"}},
		"no weights": {func(f *folder) { f.tensors = nil }, os.ErrNotExist, []string{"model.safetensors"}},
		"pickled weights": {
			func(f *folder) { f.tensors, f.files["pytorch_model.bin"] = nil, "x" }, model.ErrUnsupported, []string{"pytorch_model.bin"},
		},
		"missing tensor": {func(f *folder) { delete(f.tensors, query) }, model.ErrWeights, []string{"model.safetensors", query, "[8 8]"}},
		"other shape": {
			func(f *folder) { f.tensors[query] = model.NewTensor(8, 7) }, model.ErrWeights, []string{"model.safetensors", query, "[8 7]", "[8 8]"},
		},
		"not a number": {
			func(f *folder) {
				x := model.NewTensor(8, 8)
				x.Data[5] = float32(math.NaN())
				f.tensors[query] = x
			}, model.ErrWeights, []string{"model.safetensors", query, "position 5"},
		},
		"twice": {
			func(f *folder) { f.tensors["bert."+query] = f.tensors[query] }, model.ErrWeights, []string{query, "second time"},
		},
		"shard outside": {
			func(f *folder) {
				f.tensors = nil
				f.files["model.safetensors.index.json"] = `{"weight_map":{"x":"../y"}}`
			}, model.ErrConfig, []string{"../y"},
		},
		"shard that is absent": {
			func(f *folder) {
				f.tensors = nil
				f.files["model.safetensors.index.json"] = `{"weight_map":{"x":"y.safetensors"}}`
			}, os.ErrNotExist, []string{"y.safetensors"},
		},
		"index that is none": {
			func(f *folder) { f.tensors, f.files["model.safetensors.index.json"] = nil, "[" }, model.ErrConfig, []string{"index.json"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := bertFolder(randomText(tinyText(), 1))
			test.spoil(&f)
			_, err := model.LoadText(f.write(t))
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			for _, s := range test.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %v does not say %q", err, s)
				}
			}
		})
	}
}

// A file that was cut off anywhere is refused by name, and where tensors are
// cut off, by theirs.
func TestLoadTextCutOff(t *testing.T) {
	dir := bertFolder(randomText(tinyText(), 1)).write(t)
	path := filepath.Join(dir, "model.safetensors")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 7, 100, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := model.LoadText(dir)
		if !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), path) {
			t.Errorf("%d of %d bytes: error %v, want ErrFormat that names the file", n, len(whole), err)
		}
		if n > len(whole)/3 && err != nil && !strings.Contains(err.Error(), `tensor "`) {
			t.Errorf("%d of %d bytes: error %v names no tensor", n, len(whole), err)
		}
	}
}

// Tensors that are not wanted may be of types that are not read.
func TestLoadTextSkipsIntegers(t *testing.T) {
	dir := bertFolder(randomText(tinyText(), 1)).write(t)
	path := filepath.Join(dir, "model.safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	length := int(b[0]) | int(b[1])<<8
	header := string(b[8 : 8+length])
	end := len(b) - 8 - length
	header = strings.Replace(header, "{", fmt.Sprintf(`{"embeddings.position_ids":{"dtype":"I64","shape":[1,9],"data_offsets":[%d,%d]},`, end, end+72), 1)
	if err := os.WriteFile(path, file(header, append(b[8+length:], make([]byte, 72)...)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := model.LoadText(dir); err != nil {
		t.Error(err)
	}
}
