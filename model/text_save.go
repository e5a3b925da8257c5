package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// tokenizerFiles are what a folder may hold of a tokenizer; one of the first two
// is needed.
var tokenizerFiles = []string{"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"}

// SaveText writes a text encoder to the Hugging Face folder dir, which is made
// where it is missing, so that LoadText, transformers and sentence-transformers
// read it: config.json, model.safetensors, the modules for pooling and, copied
// from the folder from, the tokenizer. The encoder is written as one of type
// bert, whatever it was read from. Other files of dir are left alone.
//
// All files are written before any takes its place, the weights last and with
// the old ones gone before: a reader finds the encoder that was there, or none,
// or the new one, never a mixture. Errors wrap ErrConfig or ErrWeights for what
// is no encoder, or are those of the file system.
func SaveText(dir string, m *TextModel, from string) error {
	if err := saveText(dir, m, from); err != nil {
		return fmt.Errorf("model: save text encoder: %w", err)
	}
	return nil
}

func saveText(dir string, m *TextModel, from string) (err error) {
	if err := m.Config.Validate(); err != nil {
		return err
	}
	if err := m.Weights.Check(m.Config); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, ".new-*.tmp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()

	var names []string
	put := func(name string, write func(io.Writer) error) error {
		names = append(names, name)
		path := filepath.Join(tmp, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return replaceFile(path, write)
	}
	stale, err := copyTokenizer(from, put)
	if err != nil {
		return err
	}
	for name, v := range textFiles(m.Config) {
		if err := put(name, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(v)
		}); err != nil {
			return err
		}
	}
	tensors := make(map[string]*Tensor, len(m.Weights))
	for name, t := range m.Weights {
		tensors[architectures["bert"].theirs(name)] = t
	}
	const weights = "model.safetensors"
	if err := put(weights, func(w io.Writer) error {
		return WriteTensors(w, tensors, map[string]string{"format": "pt"}) // which transformers asks for
	}); err != nil {
		return err
	}
	for _, name := range append([]string{weights, weights + ".index.json"}, stale...) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, name := range names { // the weights are the last of them
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyTokenizer copies the tokenizer of a folder and returns the names of the
// files that it does not have.
func copyTokenizer(from string, put func(name string, write func(io.Writer) error) error) (lacking []string, err error) {
	for _, name := range tokenizerFiles {
		b, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			lacking = append(lacking, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := put(name, func(w io.Writer) error { _, err := w.Write(b); return err }); err != nil {
			return nil, err
		}
	}
	if len(lacking) > 1 && lacking[0] == tokenizerFiles[0] && lacking[1] == tokenizerFiles[1] {
		return nil, fmt.Errorf("%s has neither %s nor %s: %w; name the folder that the encoder was read from", from, tokenizerFiles[0], tokenizerFiles[1], fs.ErrNotExist)
	}
	return lacking, nil
}

// textFiles are the files beside the weights that say what an encoder is, by
// name, each to be written as JSON.
func textFiles(c TextConfig) map[string]any {
	type module struct {
		Index int    `json:"idx"`
		Name  string `json:"name"`
		Path  string `json:"path"`
		Type  string `json:"type"`
	}
	modules := []module{
		{0, "0", "", "sentence_transformers.models.Transformer"},
		{1, "1", "1_Pooling", "sentence_transformers.models.Pooling"},
	}
	if c.Normalise {
		modules = append(modules, module{2, "2", "2_Normalize", "sentence_transformers.models.Normalize"})
	}
	return map[string]any{
		"config.json": map[string]any{
			"architectures":           []string{"BertModel"},
			"model_type":              "bert",
			"vocab_size":              c.Vocabulary,
			"max_position_embeddings": c.Positions,
			"position_embedding_type": "absolute",
			"type_vocab_size":         c.Types,
			"hidden_size":             c.Dim,
			"num_hidden_layers":       c.Layers,
			"num_attention_heads":     c.Heads,
			"intermediate_size":       c.FFN,
			"hidden_act":              "gelu",
			"layer_norm_eps":          c.NormEpsilon,
			"torch_dtype":             "float32",
		},
		"modules.json":              modules,
		"sentence_bert_config.json": map[string]any{"max_seq_length": c.MaxTokens, "do_lower_case": false},
		"1_Pooling/config.json": map[string]any{
			"word_embedding_dimension":          c.Dim,
			"pooling_mode_cls_token":            c.Pooling == PoolCLS,
			"pooling_mode_mean_tokens":          c.Pooling == PoolMean,
			"pooling_mode_max_tokens":           false,
			"pooling_mode_mean_sqrt_len_tokens": false,
		},
	}
}
