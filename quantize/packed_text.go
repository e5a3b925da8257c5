package quantize

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"github.com/klauspost/compress/zstd"

	"github.com/wisp-project/wisp/internal/tokenize"
	"github.com/wisp-project/wisp/model"
)

// A packed text encoder is one zstd frame: the magic, the length of a header as
// uint32, little-endian as all that follows, the header in JSON, and the tensors
// in the order of TextConfig.Specs. A matrix is its rows' scales in float32 and
// then its rows in int8, anything else is float32.
const packedTextMagic = "wisptxt1"

// maxPackedText bounds what a packed encoder may expand to.
const maxPackedText = 1 << 30

// packedText is the header.
type packedText struct {
	Config    model.TextConfig `json:"config"`
	Vocab     []string         `json:"vocab"`
	Tokenizer tokenize.Options `json:"tokenizer"`
}

// PackText returns a text encoder with its tokenizer in a few bytes: matrices with
// a scale for each row, embeddings of words in the given number of levels on each
// side of zero, 0 meaning 127. Words in few levels compress to as many bits, which
// is where the bytes of a small encoder are. The error wraps ErrModel.
func PackText(m *model.TextModel, tok *tokenize.Tokenizer, wordLevels int) ([]byte, error) {
	if wordLevels < 0 || wordLevels > weightLevels {
		return nil, fmt.Errorf("%w: words in %d levels; want 1 to %d", ErrModel, wordLevels, weightLevels)
	}
	if wordLevels == 0 {
		wordLevels = weightLevels
	}
	if err := m.Weights.Check(m.Config); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	if err := tok.CheckSize(m.Config.Vocabulary); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	header, err := json.Marshal(packedText{m.Config, tok.Vocab(), tok.Options()})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	raw := binary.LittleEndian.AppendUint32([]byte(packedTextMagic), uint32(len(header)))
	raw = append(raw, header...)
	floats := func(x []float32) {
		for _, v := range x {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
		}
	}
	for _, s := range m.Config.Specs() {
		w := m.Weights[s.Name]
		if len(w.Shape) != 2 {
			floats(w.Data)
			continue
		}
		levels := weightLevels
		if s.Name == model.TextWord {
			levels = wordLevels
		}
		l := matrixIn(w, levels)
		floats(l.Scale)
		for _, v := range l.W {
			raw = append(raw, byte(v))
		}
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("quantize: pack text encoder: %w", err)
	}
	return enc.EncodeAll(raw, nil), nil
}

// UnpackText returns the encoder that PackText packed, its weights in float32 as
// they were rounded, and its tokenizer. The error wraps ErrModel.
func UnpackText(b []byte) (*model.TextModel, *tokenize.Tokenizer, error) {
	m, tok, err := unpackText(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: packed text encoder: %w", ErrModel, err)
	}
	return m, tok, nil
}

func unpackText(b []byte) (*model.TextModel, *tokenize.Tokenizer, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPackedText))
	if err != nil {
		return nil, nil, err
	}
	defer dec.Close()
	raw, err := dec.DecodeAll(b, nil)
	if err != nil {
		return nil, nil, err
	}
	raw, ok := bytes.CutPrefix(raw, []byte(packedTextMagic))
	if !ok || len(raw) < 4 {
		return nil, nil, fmt.Errorf("it does not start with %q", packedTextMagic)
	}
	n, raw := int64(binary.LittleEndian.Uint32(raw)), raw[4:]
	if n > int64(len(raw)) {
		return nil, nil, fmt.Errorf("a header of %d bytes, of which %d are there", n, len(raw))
	}
	var h packedText
	if err := json.Unmarshal(raw[:n], &h); err != nil {
		return nil, nil, err
	}
	raw = raw[n:]
	if err := h.Config.Validate(); err != nil {
		return nil, nil, err
	}
	w := model.Weights{}
	for _, s := range h.Config.Specs() {
		rows, cols := 1, 1
		for _, d := range s.Shape {
			cols *= d
		}
		size := 4 * cols
		if len(s.Shape) == 2 {
			rows, cols = s.Shape[0], s.Shape[1]
			size = rows * (4 + cols)
		}
		if size > len(raw) {
			return nil, nil, fmt.Errorf("%q takes %d bytes, %d are left", s.Name, size, len(raw))
		}
		part := raw[:size]
		raw = raw[size:]
		float := func(i int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(part[4*i:])) }
		t := model.NewTensor(s.Shape...)
		for i := range t.Data {
			if len(s.Shape) != 2 {
				t.Data[i] = float(i)
				continue
			}
			t.Data[i] = float(i/cols) * float32(int8(part[4*rows+i]))
		}
		w[s.Name] = t
	}
	if len(raw) > 0 {
		return nil, nil, fmt.Errorf("%d bytes too many", len(raw))
	}
	m, err := model.NewText(h.Config, w)
	if err != nil {
		return nil, nil, err
	}
	tok, err := tokenize.New(h.Vocab, h.Tokenizer)
	if err == nil {
		err = tok.CheckSize(h.Config.Vocabulary)
	}
	return m, tok, err
}
