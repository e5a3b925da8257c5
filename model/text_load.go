package model

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// LoadText reads a text encoder from a Hugging Face folder: config.json, the
// weights in model.safetensors or in shards named by
// model.safetensors.index.json, and, where sentence-transformers wrote them,
// modules.json, the pooling it names and sentence_bert_config.json. Without
// modules.json, embeddings are means and are not normalised.
//
// BERT, MiniLM (a small BERT) and DistilBERT are read, with their masked-language
// head where it is there; tensors of heads for other tasks are passed over. DistilBERT, which has no
// token types, gets one whose vector is zero. What is of another kind gives
// ErrUnsupported, a bad configuration ErrConfig, a missing or wrongly shaped
// tensor ErrWeights, a damaged file ErrFormat, each naming file and tensor.
func LoadText(dir string) (*TextModel, error) {
	m, err := loadText(dir)
	if err != nil {
		return nil, fmt.Errorf("model: load text encoder: %w", err)
	}
	return m, nil
}

func loadText(dir string) (*TextModel, error) {
	mod, err := readModules(dir)
	if err != nil {
		return nil, err
	}
	dir = filepath.Join(dir, mod.encoder)
	c, a, err := readTextConfig(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, err
	}
	c.Pooling, c.Normalise = mod.pooling, mod.normalise
	if c.MaxTokens, err = readMaxTokens(filepath.Join(dir, "sentence_bert_config.json"), c.Positions); err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	w, err := a.load(dir, c)
	if err != nil {
		return nil, err
	}
	head := c.splitMasked(w)
	m, err := NewText(c, w)
	if err != nil {
		return nil, err
	}
	m.Masked = head
	return m, nil
}

// readJSON decodes a file; keys that dst does not have are passed over.
func readJSON(path string, dst any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, dst); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	return nil
}

// architecture is how a family of encoders names its tensors.
type architecture struct {
	names    map[string]string // ours to theirs, outside the blocks
	block    string            // what their names in block l begin with, with a verb for l
	inBlock  map[string]string // ours to theirs, without weight or bias
	hasTypes bool
}

var architectures = map[string]architecture{
	"bert": {
		names: map[string]string{
			TextWord:     "embeddings.word_embeddings.weight",
			TextPosition: "embeddings.position_embeddings.weight",
			TextType:     "embeddings.token_type_embeddings.weight",
			TextNormGain: "embeddings.LayerNorm.weight",
			TextNormBias: "embeddings.LayerNorm.bias",

			MaskedWeight:   "cls.predictions.transform.dense.weight",
			MaskedOffset:   "cls.predictions.transform.dense.bias",
			MaskedNormGain: "cls.predictions.transform.LayerNorm.weight",
			MaskedNormBias: "cls.predictions.transform.LayerNorm.bias",
			MaskedBias:     "cls.predictions.bias",
		},
		block: "encoder.layer.%d.",
		inBlock: map[string]string{
			"attn.q":    "attention.self.query",
			"attn.k":    "attention.self.key",
			"attn.v":    "attention.self.value",
			"attn.o":    "attention.output.dense",
			"attn.norm": "attention.output.LayerNorm",
			"ffn.up":    "intermediate.dense",
			"ffn.down":  "output.dense",
			"ffn.norm":  "output.LayerNorm",
		},
		hasTypes: true,
	},
	"distilbert": {
		names: map[string]string{
			TextWord:     "embeddings.word_embeddings.weight",
			TextPosition: "embeddings.position_embeddings.weight",
			TextNormGain: "embeddings.LayerNorm.weight",
			TextNormBias: "embeddings.LayerNorm.bias",

			MaskedWeight:   "vocab_transform.weight",
			MaskedOffset:   "vocab_transform.bias",
			MaskedNormGain: "vocab_layer_norm.weight",
			MaskedNormBias: "vocab_layer_norm.bias",
			MaskedBias:     "vocab_projector.bias",
		},
		block: "transformer.layer.%d.",
		inBlock: map[string]string{
			"attn.q":    "attention.q_lin",
			"attn.k":    "attention.k_lin",
			"attn.v":    "attention.v_lin",
			"attn.o":    "attention.out_lin",
			"attn.norm": "sa_layer_norm",
			"ffn.up":    "ffn.lin1",
			"ffn.down":  "ffn.lin2",
			"ffn.norm":  "output_layer_norm",
		},
	},
}

// lacking says what it would take to read other encoders, by model_type.
var lacking = map[string]string{
	"albert":      "blocks that share their weights and a factorised embedding",
	"camembert":   "a SentencePiece tokenizer and positions that start at 2",
	"deberta":     "disentangled attention",
	"deberta-v2":  "disentangled attention",
	"electra":     "an embedding of another width than the blocks",
	"modernbert":  "rotary positions and gated feed-forward parts",
	"mpnet":       "a relative position bias",
	"nomic_bert":  "rotary positions and gated feed-forward parts",
	"roberta":     "a byte-level BPE tokenizer and positions that start at 2",
	"t5":          "a relative position bias and a SentencePiece tokenizer",
	"xlm-roberta": "a SentencePiece tokenizer and positions that start at 2",
}

// readTextConfig reads config.json; pooling and MaxTokens are not in it.
func readTextConfig(path string) (TextConfig, architecture, error) {
	var j struct {
		ModelType    string   `json:"model_type"`
		Vocabulary   int      `json:"vocab_size"`
		Positions    int      `json:"max_position_embeddings"`
		PositionType string   `json:"position_embedding_type"`
		IsDecoder    bool     `json:"is_decoder"`
		NormEpsilon  *float64 `json:"layer_norm_eps"`
		// BERT
		Types      int    `json:"type_vocab_size"`
		Dim        int    `json:"hidden_size"`
		Layers     int    `json:"num_hidden_layers"`
		Heads      int    `json:"num_attention_heads"`
		FFN        int    `json:"intermediate_size"`
		Activation string `json:"hidden_act"`
		// DistilBERT
		DistilDim        int    `json:"dim"`
		DistilLayers     int    `json:"n_layers"`
		DistilHeads      int    `json:"n_heads"`
		DistilFFN        int    `json:"hidden_dim"`
		DistilActivation string `json:"activation"`
	}
	if err := readJSON(path, &j); err != nil {
		return TextConfig{}, architecture{}, err
	}
	refuse := func(format string, args ...any) (TextConfig, architecture, error) {
		return TextConfig{}, architecture{}, fmt.Errorf("%w: %s: %s", ErrUnsupported, path, fmt.Sprintf(format, args...))
	}
	a, ok := architectures[j.ModelType]
	if !ok {
		return refuse("model_type is %q, which needs %s; wisp reads %s (MiniLM is one of type bert)", j.ModelType,
			cmp.Or(lacking[j.ModelType], "what wisp does not know"), strings.Join(slices.Sorted(maps.Keys(architectures)), " and "))
	}
	if !a.hasTypes {
		j.Types, j.Dim, j.Layers, j.Heads, j.FFN, j.Activation = 1, j.DistilDim, j.DistilLayers, j.DistilHeads, j.DistilFFN, j.DistilActivation
	}
	switch {
	case cmp.Or(j.Activation, "gelu") != "gelu":
		return refuse("activation %q, wisp computes gelu", j.Activation)
	case cmp.Or(j.PositionType, "absolute") != "absolute":
		return refuse("position_embedding_type %q, wisp computes absolute positions", j.PositionType)
	case j.IsDecoder:
		return refuse("is_decoder is true, wisp computes encoders")
	}
	c := TextConfig{
		Vocabulary: j.Vocabulary, Positions: j.Positions, Types: j.Types,
		Dim: j.Dim, Layers: j.Layers, Heads: j.Heads, FFN: j.FFN, NormEpsilon: 1e-12,
	}
	if j.NormEpsilon != nil {
		c.NormEpsilon = *j.NormEpsilon
	}
	return c, a, nil
}

// readMaxTokens reads the length to which sentence-transformers cuts texts; it
// is that of the positions where the file is absent or asks for more.
func readMaxTokens(path string, positions int) (int, error) {
	var j struct {
		MaxTokens *int `json:"max_seq_length"`
	}
	err := readJSON(path, &j)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if j.MaxTokens == nil {
		return positions, nil
	}
	return min(*j.MaxTokens, positions), nil
}

// modules is what sentence-transformers adds to an encoder.
type modules struct {
	encoder   string // folder of the encoder, relative
	pooling   Pooling
	normalise bool
}

func readModules(dir string) (modules, error) {
	m := modules{pooling: PoolMean}
	path := filepath.Join(dir, "modules.json")
	var list []struct {
		Type string `json:"type"`
		Path string `json:"path"`
	}
	err := readJSON(path, &list)
	if errors.Is(err, fs.ErrNotExist) {
		err = readPooling(filepath.Join(dir, "1_Pooling", "config.json"), &m)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return m, err
	}
	if err != nil {
		return m, err
	}
	for _, module := range list {
		if module.Path != "" && !filepath.IsLocal(module.Path) {
			return m, fmt.Errorf("%w: %s: path %q leads out of the folder", ErrConfig, path, module.Path)
		}
		switch kind := module.Type[strings.LastIndexByte(module.Type, '.')+1:]; kind {
		case "Transformer":
			m.encoder = module.Path
		case "Pooling":
			if err := readPooling(filepath.Join(dir, module.Path, "config.json"), &m); err != nil {
				return m, err
			}
		case "Normalize":
			m.normalise = true
		default:
			return m, fmt.Errorf("%w: %s: module %q, wisp computes Transformer, Pooling and Normalize", ErrUnsupported, path, module.Type)
		}
	}
	return m, nil
}

func readPooling(path string, m *modules) error {
	var j map[string]any
	if err := readJSON(path, &j); err != nil {
		return err
	}
	// Older files have a flag for each mode, newer ones the name of one.
	var modes []string
	for key, v := range j {
		if mode, ok := strings.CutPrefix(key, "pooling_mode_"); ok && v == true {
			modes = append(modes, mode)
		}
	}
	if mode, ok := j["pooling_mode"].(string); ok {
		modes = append(modes, mode)
	}
	slices.Sort(modes)
	switch name := strings.Join(slices.Compact(modes), "+"); name {
	case "mean_tokens", "mean", "":
		m.pooling = PoolMean
	case "cls_token", "cls":
		m.pooling = PoolCLS
	default:
		return fmt.Errorf("%w: %s: pooling %q, wisp computes mean_tokens and cls_token", ErrUnsupported, path, name)
	}
	return nil
}

// theirs returns the name in the file of the tensor that is called name here,
// or "" for one that the architecture does not have.
func (a architecture) theirs(name string) string {
	var l int
	if n, err := fmt.Sscanf(name, "text.layer.%d.", &l); err != nil || n != 1 {
		return a.names[name]
	}
	rest := strings.TrimPrefix(name, TextLayerName(l, ""))
	dot := strings.LastIndexByte(rest, '.')
	return fmt.Sprintf(a.block, l) + a.inBlock[rest[:dot]] + rest[dot:]
}

// plain strips what a name has around it in files of models with a head, and
// brings the names of old conversions up to date.
func plain(name string) string {
	for _, prefix := range []string{"bert.", "distilbert."} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			name = rest
			break
		}
	}
	name = strings.Replace(name, "LayerNorm.gamma", "LayerNorm.weight", 1)
	return strings.Replace(name, "LayerNorm.beta", "LayerNorm.bias", 1)
}

// load reads the tensors of configuration c, and those of its masked-language
// head that are there, from dir under our names.
func (a architecture) load(dir string, c TextConfig) (Weights, error) {
	files, list, err := weightFiles(dir)
	if err != nil {
		return nil, err
	}
	specs := c.Specs()
	ours := make(map[string]Spec, len(specs)) // by their plain name
	for _, s := range append(slices.Clip(specs), c.MaskedSpecs()...) {
		if name := a.theirs(s.Name); name != "" {
			ours[name] = s
		}
	}
	w := Weights{}
	for _, file := range files {
		tensors, _, err := loadTensors(file, func(name string) bool { _, ok := ours[plain(name)]; return ok })
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(tensors)) {
			s, t := ours[plain(name)], tensors[name]
			if _, ok := w[s.Name]; ok {
				return nil, fmt.Errorf("%w: %s: tensor %q is there a second time", ErrWeights, file, name)
			}
			if !slices.Equal(t.Shape, s.Shape) {
				return nil, fmt.Errorf("%w: %s: tensor %q has shape %v, by config.json it should have %v", ErrWeights, file, name, t.Shape, s.Shape)
			}
			if i := notFinite(t.Data); i >= 0 {
				return nil, fmt.Errorf("%w: %s: tensor %q holds %v at position %d", ErrWeights, file, name, t.Data[i], i)
			}
			w[s.Name] = t
		}
	}
	for _, s := range specs {
		if _, ok := w[s.Name]; ok {
			continue
		}
		name := a.theirs(s.Name)
		if name == "" {
			w[s.Name] = NewTensor(s.Shape...)
			continue
		}
		return nil, fmt.Errorf("%w: %s: tensor %q of shape %v is missing", ErrWeights, list, name, s.Shape)
	}
	return w, nil
}

// weightFiles returns the files that hold the weights, and the one that says
// which these are.
func weightFiles(dir string) (files []string, list string, err error) {
	single := filepath.Join(dir, "model.safetensors")
	_, err = os.Stat(single)
	if err == nil {
		return []string{single}, single, nil
	}
	list = single + ".index.json"
	var index struct {
		Files map[string]string `json:"weight_map"` // by tensor
	}
	if e := readJSON(list, &index); errors.Is(e, fs.ErrNotExist) {
		if _, e := os.Stat(filepath.Join(dir, "pytorch_model.bin")); e == nil {
			return nil, "", fmt.Errorf("%w: %s has its weights in pytorch_model.bin, which wisp does not read; convert it to model.safetensors", ErrUnsupported, dir)
		}
		return nil, "", err
	} else if e != nil {
		return nil, "", e
	}
	for _, name := range slices.Sorted(maps.Values(index.Files)) {
		if path.Base(name) != name || !filepath.IsLocal(name) {
			return nil, "", fmt.Errorf("%w: %s: shard %q is not the name of a file in the folder", ErrConfig, list, name)
		}
		files = append(files, filepath.Join(dir, name))
	}
	return slices.Compact(files), list, nil
}
