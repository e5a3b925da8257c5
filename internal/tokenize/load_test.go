package tokenize_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/tokenize"
)

// object is a JSON object.
type object = map[string]any

// folder writes files to a new folder: strings as they are, the rest as JSON.
func folder(tb testing.TB, files object) string {
	tb.Helper()
	dir := tb.TempDir()
	for name, v := range files {
		b, ok := v.(string)
		if !ok {
			j, err := json.Marshal(v)
			if err != nil {
				tb.Fatal(err)
			}
			b = string(j)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(b), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	return dir
}

// bertJSON returns a tokenizer.json with the vocabulary of testdata, changed by edit.
func bertJSON(tb testing.TB, edit func(object)) object {
	tb.Helper()
	ids := object{}
	for i, token := range vocabulary(tb) {
		ids[token] = i
	}
	var added []object
	for i, token := range []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"} {
		added = append(added, object{"id": i, "content": token, "special": true, "normalized": false, "single_word": false})
	}
	special := func(id string, kind int) object {
		return object{"SpecialToken": object{"id": id, "type_id": kind}}
	}
	text := func(id string, kind int) object { return object{"Sequence": object{"id": id, "type_id": kind}} }
	t := object{
		"added_tokens":  added,
		"normalizer":    object{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": nil, "lowercase": true},
		"pre_tokenizer": object{"type": "BertPreTokenizer"},
		"post_processor": object{
			"type":   "TemplateProcessing",
			"single": []object{special("[CLS]", 0), text("A", 0), special("[SEP]", 0)},
			"pair":   []object{special("[CLS]", 0), text("A", 0), special("[SEP]", 0), text("B", 1), special("[SEP]", 1)},
		},
		"model": object{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": ids},
	}
	if edit != nil {
		edit(t)
	}
	return t
}

// vocabText returns testdata/vocab.txt.
func vocabText(tb testing.TB) string {
	tb.Helper()
	return strings.Join(vocabulary(tb), "\n") + "\n"
}

func TestLoad(t *testing.T) {
	t.Parallel()
	const text = "Red CAFÉ 東京 [MASK] té\u200ba <new>xxx"
	tests := []struct {
		name  string
		files object
		want  string
	}{
		{"tokenizer.json", object{"tokenizer.json": bertJSON(t, nil)}, "red cafe 東 京 [MASK] tea < new > xx ##x"},
		{"of an older version", object{"tokenizer.json": bertJSON(t, func(o object) {
			delete(o["model"].(object), "type")
			o["post_processor"] = object{"type": "BertProcessing", "sep": []any{"[SEP]", 3}, "cls": []any{"[CLS]", 2}}
		})}, "red cafe 東 京 [MASK] tea < new > xx ##x"},
		{"before vocab.txt", object{"tokenizer.json": bertJSON(t, nil), "vocab.txt": "x"}, "red cafe 東 京 [MASK] tea < new > xx ##x"},
		{"other options", object{"tokenizer.json": bertJSON(t, func(o object) {
			o["normalizer"] = object{"type": "BertNormalizer", "clean_text": false, "handle_chinese_chars": false, "strip_accents": false, "lowercase": false}
			o["model"].(object)["max_input_chars_per_word"] = 2
			o["added_tokens"] = []object{{"id": len(vocabulary(t)), "content": "<new>"}}
		})}, "[UNK] [UNK] [UNK] [ [UNK] ] [UNK] <new> [UNK]"},
		{"vocab.txt", object{"vocab.txt": vocabText(t)}, "red cafe 東 京 [MASK] tea < new > xx ##x"},
		{"vocab.txt with carriage returns", object{"vocab.txt": strings.ReplaceAll(vocabText(t), "\n", "\r\n")}, "red cafe 東 京 [MASK] tea < new > xx ##x"},
		{"vocab.txt with a config", object{"vocab.txt": vocabText(t), "tokenizer_config.json": object{
			"do_lower_case": false, "strip_accents": true, "tokenize_chinese_chars": false, "tokenizer_class": "BertTokenizerFast",
			"mask_token": object{"content": "[PAD]"}, "pad_token": "[PAD]", "never_split": nil,
			"added_tokens_decoder": object{"0": object{"content": "[PAD]"}},
		}}, "Red [UNK] [UNK] [ [UNK] ] tea < new > xx ##x"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tok, err := tokenize.Load(folder(t, tt.files))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(tok.Tokens(text), " "); got != tt.want {
				t.Errorf("tokens %q, want %q", got, tt.want)
			}
			if !slices.Equal(tok.Vocab()[:5], vocabulary(t)[:5]) {
				t.Errorf("the vocabulary starts with %q", tok.Vocab()[:5])
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	model := func(edit func(m object)) object {
		return object{"tokenizer.json": bertJSON(t, func(o object) { edit(o["model"].(object)) })}
	}
	top := func(key string, v any) object {
		return object{"tokenizer.json": bertJSON(t, func(o object) { o[key] = v })}
	}
	config := func(key string, v any) object {
		return object{"vocab.txt": vocabText(t), "tokenizer_config.json": object{key: v}}
	}
	tests := []struct {
		name  string
		files object
		want  error
		says  string
	}{
		{"empty folder", object{}, tokenize.ErrFormat, "neither tokenizer.json nor vocab.txt"},
		{"byte-level BPE", object{"tokenizer.json": object{
			"model": object{"type": "BPE", "vocab": object{}, "merges": []string{}}, "pre_tokenizer": object{"type": "ByteLevel"},
		}}, tokenize.ErrUnsupported, "a byte-level BPE tokenizer"},
		{"BPE without a type", object{"tokenizer.json": object{"model": object{"vocab": object{}, "merges": []string{}}}}, tokenize.ErrUnsupported, "a BPE tokenizer"},
		{"unigram", object{"tokenizer.json": object{"model": object{"type": "Unigram", "vocab": []any{}}}}, tokenize.ErrUnsupported, "a Unigram tokenizer"},
		{"unigram without a type", object{"tokenizer.json": object{"model": object{"vocab": []any{}}}}, tokenize.ErrUnsupported, "a Unigram tokenizer"},
		{"merges.txt", object{"merges.txt": "", "vocab.json": "{}"}, tokenize.ErrUnsupported, "a byte-level BPE tokenizer"},
		{"SentencePiece", object{"spiece.model": ""}, tokenize.ErrUnsupported, "a SentencePiece tokenizer"},
		{"normalizer", top("normalizer", object{"type": "Sequence"}), tokenize.ErrUnsupported, "normalizer Sequence"},
		{"no normalizer", top("normalizer", nil), tokenize.ErrUnsupported, "normalizer none"},
		{"pre_tokenizer", top("pre_tokenizer", object{"type": "Whitespace"}), tokenize.ErrUnsupported, "pre_tokenizer Whitespace"},
		{"no post_processor", top("post_processor", nil), tokenize.ErrUnsupported, "post_processor"},
		{"RoBERTa's post_processor", top("post_processor", object{"type": "RobertaProcessing", "sep": []any{"</s>", 2}, "cls": []any{"<s>", 0}}), tokenize.ErrUnsupported, "post_processor"},
		{"template without a class token", top("post_processor", object{"type": "TemplateProcessing", "single": []object{
			{"Sequence": object{"id": "A", "type_id": 0}}, {"SpecialToken": object{"id": "[SEP]", "type_id": 0}}, {"SpecialToken": object{"id": "[SEP]", "type_id": 0}},
		}}), tokenize.ErrUnsupported, "post_processor"},
		{"normalized added token", top("added_tokens", []object{{"id": 0, "content": "[PAD]", "normalized": true}}), tokenize.ErrUnsupported, `"[PAD]"`},
		{"added token with a gap", top("added_tokens", []object{{"id": 5000, "content": "<new>"}}), tokenize.ErrVocab, `"<new>" has id 5000`},
		{"added token of another id", top("added_tokens", []object{{"id": 1, "content": "[PAD]"}}), tokenize.ErrVocab, `"[PAD]" has id 1`},
		{"added token twice", top("added_tokens", []object{{"id": 0, "content": "[PAD]"}, {"id": 0, "content": "[PAD]"}}), tokenize.ErrVocab, "added twice"},
		{"empty prefix", model(func(m object) { m["continuing_subword_prefix"] = "" }), tokenize.ErrUnsupported, "continuing_subword_prefix"},
		{"no characters", model(func(m object) { m["max_input_chars_per_word"] = 0 }), tokenize.ErrFormat, "max_input_chars_per_word is 0"},
		{"no vocabulary", model(func(m object) { delete(m, "vocab") }), tokenize.ErrFormat, "model.vocab"},
		{"an id twice", model(func(m object) { m["vocab"] = object{"a": 0, "b": 0} }), tokenize.ErrVocab, `"a" and "b" have id 0`},
		{"an id too large", model(func(m object) { m["vocab"] = object{"a": 0, "b": 1 << 40} }), tokenize.ErrVocab, `"b" has id`},
		{"missing special tokens", model(func(m object) { m["unk_token"] = "<unk>" }), tokenize.ErrVocab, `"<unk>"`},
		{"not JSON", object{"tokenizer.json": "{\n\"model\": [}\n"}, tokenize.ErrFormat, "tokenizer.json:2:"},
		{"cut", object{"tokenizer.json": "{\n\n\"model\": {"}, tokenize.ErrFormat, "tokenizer.json:3:"},
		{"wrong JSON type", object{"tokenizer.json": "{\n\"model\": 3}\n"}, tokenize.ErrFormat, "tokenizer.json:2:"},
		{"config not JSON", object{"vocab.txt": "a", "tokenizer_config.json": "}"}, tokenize.ErrFormat, "tokenizer_config.json:1:"},
		{"config of a wrong name", config("unk_token", 3), tokenize.ErrFormat, "tokenizer_config.json:1:"},
		{"another class", config("tokenizer_class", "XLNetTokenizer"), tokenize.ErrUnsupported, `"XLNetTokenizer"`},
		{"no basic tokenizer", config("do_basic_tokenize", false), tokenize.ErrUnsupported, "do_basic_tokenize"},
		{"never split", config("never_split", []string{"a"}), tokenize.ErrUnsupported, "never_split"},
		{"added tokens of a config", config("added_tokens_decoder", object{"7": object{"content": "<a>"}}), tokenize.ErrUnsupported, `"<a>"`},
		{"duplicate line", object{"vocab.txt": "[PAD]\n[UNK]\na\na\n"}, tokenize.ErrVocab, `vocab.txt:4: "a" is on line 3`},
		{"empty vocab.txt", object{"vocab.txt": ""}, tokenize.ErrVocab, `"[UNK]"`},
		{"vocab.txt is not text", object{"vocab.txt": "\xff\xfe\n"}, tokenize.ErrVocab, "not UTF-8"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tok, err := tokenize.Load(folder(t, tt.files))
			if tok != nil || !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) || !strings.HasPrefix(err.Error(), "tokenize: ") {
				t.Errorf("error %v, want %v that says %q", err, tt.want, tt.says)
			}
		})
	}
	if _, err := tokenize.Load(folder(t, object{"tokenizer.json": object{}}) + "/absent"); !errors.Is(err, tokenize.ErrFormat) {
		t.Errorf("no folder: error %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "tokenizer.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := tokenize.Load(dir); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder in the place of a file: error %v", err)
	}
}
