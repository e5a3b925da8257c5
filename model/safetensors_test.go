package model_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/model"
)

// file puts a safetensors file together from a header and values.
func file(header string, body []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), body...)
}

func read(b []byte) (map[string]*model.Tensor, map[string]string, error) {
	return model.ReadTensors(bytes.NewReader(b), int64(len(b)))
}

func TestTensorsRoundTrip(t *testing.T) {
	tensors := map[string]*model.Tensor{
		"b.matrix": {Shape: []int{2, 3}, Data: []float32{1, -2, 3.5, 0, float32(math.Inf(1)), math.SmallestNonzeroFloat32}},
		"a.scalar": {Shape: []int{}, Data: []float32{7}},
		"c.empty":  {Shape: []int{0, 4}, Data: []float32{}},
	}
	metadata := map[string]string{"made by": "a test", "quoted": `"<&>"`}
	var out bytes.Buffer
	if err := model.WriteTensors(&out, tensors, metadata); err != nil {
		t.Fatal(err)
	}
	if n := binary.LittleEndian.Uint64(out.Bytes()); n%8 != 0 {
		t.Errorf("the header has %d bytes, so the values are not aligned", n)
	}
	got, gotMetadata, err := read(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(tensors) {
		t.Fatalf("read %d tensors, wrote %d", len(got), len(tensors))
	}
	for name, want := range tensors {
		if fmt.Sprint(got[name].Shape) != fmt.Sprint(want.Shape) || fmt.Sprint(got[name].Data) != fmt.Sprint(want.Data) {
			t.Errorf("%s: read %v, wrote %v", name, got[name], want)
		}
	}
	if fmt.Sprint(gotMetadata) != fmt.Sprint(metadata) {
		t.Errorf("read metadata %v, wrote %v", gotMetadata, metadata)
	}
	var again bytes.Buffer
	if err := model.WriteTensors(&again, got, gotMetadata); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), again.Bytes()) {
		t.Error("equal tensors gave different bytes")
	}
}

func TestReadTensorsWidensHalves(t *testing.T) {
	header := `{"h":{"dtype":"F16","shape":[6],"data_offsets":[0,12]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]}}`
	var body []byte
	for _, v := range []uint16{0x3c00, 0xc100, 0x7bff, 0x0001, 0x8000, 0x7c00} { // binary16
		body = binary.LittleEndian.AppendUint16(body, v)
	}
	for _, v := range []uint16{0x3f80, 0xc020} { // bfloat16
		body = binary.LittleEndian.AppendUint16(body, v)
	}
	got, _, err := read(file(header, body))
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{1, -2.5, 65504, 1.0 / (1 << 24), float32(math.Copysign(0, -1)), float32(math.Inf(1))}
	for i, v := range got["h"].Data {
		if math.Float32bits(v) != math.Float32bits(want[i]) {
			t.Errorf("F16 value %d: got %v, want %v", i, v, want[i])
		}
	}
	if b := got["b"].Data; b[0] != 1 || b[1] != -2.5 {
		t.Errorf("BF16: got %v, want [1 -2.5]", b)
	}
}

func TestReadTensorsRefuses(t *testing.T) {
	one := func(shape, offsets string) string {
		return fmt.Sprintf(`{"x":{"dtype":"F32","shape":%s,"data_offsets":%s}}`, shape, offsets)
	}
	body := make([]byte, 16)
	for name, b := range map[string][]byte{
		"nothing":                    nil,
		"half a length":              {1, 2, 3},
		"header longer than file":    binary.LittleEndian.AppendUint64(nil, 5),
		"header length of 2^63":      append(binary.LittleEndian.AppendUint64(nil, 1<<63), body...),
		"header that is no JSON":     file(`{"x"`, body),
		"header that is an array":    file(`[]`, body),
		"metadata that is no map":    file(`{"__metadata__":[1]}`, nil),
		"metadata of numbers":        file(`{"__metadata__":{"a":1}}`, nil),
		"unknown type":               file(`{"x":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}`, body),
		"offsets beyond the end":     file(one("[8]", "[0,32]"), body),
		"offsets backwards":          file(one("[4]", "[16,0]"), body),
		"negative offset":            file(one("[4]", "[-16,0]"), body),
		"negative axis":              file(one("[-4]", "[0,16]"), body),
		"axes that overflow":         file(one("[4294967296,4294967296,4]", "[0,16]"), body),
		"shape of other size":        file(one("[3]", "[0,16]"), body),
		"too many axes":              file(one("[1,1,1,1,1,1,1,1,4]", "[0,16]"), body),
		"bytes after the last":       file(one("[2]", "[0,8]"), body),
		"gap before the first":       file(one("[2]", "[8,16]"), body),
		"missing offsets":            file(`{"x":{"dtype":"F32","shape":[4]}}`, body),
		"three offsets for overlaps": file(`{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"y":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, body),
		"same bytes twice":           file(`{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"y":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}`, body),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := read(b); !errors.Is(err, model.ErrFormat) {
				t.Errorf("error %v, want ErrFormat", err)
			}
		})
	}
}

// A header may announce any size: nothing must be allocated on its word.
func TestReadTensorsAllocatesNothingOnTrust(t *testing.T) {
	header := `{"x":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}`
	b := file(header, make([]byte, 64))
	if n := testing.AllocsPerRun(1, func() {
		if _, _, err := read(b); err == nil {
			t.Error("accepted")
		}
	}); n > 200 {
		t.Errorf("%v allocations", n)
	}
}

func TestSaveAndLoad(t *testing.T) {
	c := tiny()
	w := random(c, 1)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	for range 2 { // the second replaces the first
		if err := model.Save(path, c, w, map[string]string{"epoch": "3"}); err != nil {
			t.Fatal(err)
		}
	}
	gotConfig, got, metadata, err := model.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if gotConfig != c || metadata["epoch"] != "3" || len(metadata) != 1 {
		t.Errorf("read %+v and %v", gotConfig, metadata)
	}
	for name, want := range w {
		for i, v := range want.Data {
			if got[name].Data[i] != v {
				t.Fatalf("%s[%d]: read %v, wrote %v", name, i, got[name].Data[i], v)
			}
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v (%v), want the model alone", left, err)
	}
}

func TestSaveLeavesTheOldFileWhole(t *testing.T) {
	c := tiny()
	w := random(c, 1)
	path := filepath.Join(t.TempDir(), "model.safetensors")
	if err := model.Save(path, c, w, nil); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]*model.Tensor{"x": {Shape: []int{3}, Data: []float32{1}}}
	if err := model.SaveTensors(path, broken, nil); !errors.Is(err, model.ErrFormat) {
		t.Errorf("error %v, want ErrFormat", err)
	}
	w[model.UserCold].Data[0] = float32(math.NaN())
	if err := model.Save(path, c, w, nil); !errors.Is(err, model.ErrWeights) {
		t.Errorf("error %v, want ErrWeights", err)
	}
	after, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("a save that failed changed the file (%v)", err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("the folder holds %v (%v), want the model alone", left, err)
	}
}

func TestLoadRefuses(t *testing.T) {
	c := tiny()
	folder := t.TempDir()
	save := func(name string, w model.Weights, metadata map[string]string) string {
		path := filepath.Join(folder, name)
		if err := model.SaveTensors(path, w, metadata); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lacking := random(c, 1)
	delete(lacking, model.UserCold)
	good := `{"items":7,"features":3,"dim":8,"layers":2,"heads":2,"ffn":12,"window":3,"event_types":4,"gap_buckets":5}`
	for _, test := range []struct {
		path, says string
		want       error
	}{
		{save("no-config", random(c, 1), nil), "wisp.config", model.ErrFormat},
		{save("bad-json", random(c, 1), map[string]string{"wisp.config": "{"}), "wisp.config", model.ErrFormat},
		{save("bad-config", random(c, 1), map[string]string{"wisp.config": strings.Replace(good, `"heads":2`, `"heads":3`, 1)}), "heads", model.ErrConfig},
		{save("lacking", lacking, map[string]string{"wisp.config": good}), model.UserCold, model.ErrWeights},
		{filepath.Join(folder, "absent"), "absent", os.ErrNotExist},
	} {
		_, _, _, err := model.Load(test.path)
		if !errors.Is(err, test.want) || !strings.Contains(fmt.Sprint(err), test.says) {
			t.Errorf("%s: error %v, want %v that says %q", filepath.Base(test.path), err, test.want, test.says)
		}
	}
}

// FuzzReadTensors: whatever the bytes, there is an error or a set of tensors
// that can be written and read again.
func FuzzReadTensors(f *testing.F) {
	var out bytes.Buffer
	if err := model.WriteTensors(&out, random(tiny(), 1), map[string]string{"a": "b"}); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add(file(`{"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, make([]byte, 4)))
	f.Add(file(`{}`, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, metadata, err := read(b)
		if err != nil {
			if !errors.Is(err, model.ErrFormat) {
				t.Errorf("error %v does not wrap ErrFormat", err)
			}
			return
		}
		var out bytes.Buffer
		if err := model.WriteTensors(&out, tensors, metadata); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if again, _, err := read(out.Bytes()); err != nil || len(again) != len(tensors) {
			t.Errorf("written and read again: %d of %d tensors, %v", len(again), len(tensors), err)
		}
	})
}

func ExampleSave() {
	c := model.Config{Items: 2, Dim: 4, Layers: 1, Heads: 2, FFN: 8, Window: 3, EventTypes: 1, GapBuckets: 2}
	w := model.Weights{}
	for _, s := range c.Specs() {
		w[s.Name] = model.NewTensor(s.Shape...)
	}
	folder, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(folder) //nolint:errcheck // a temporary folder
	path := filepath.Join(folder, "model.safetensors")
	if err := model.Save(path, c, w, map[string]string{"data": "ml-100k"}); err != nil {
		panic(err)
	}
	got, _, metadata, err := model.Load(path)
	fmt.Println(got.Items, got.Reach(), metadata["data"], err)
	// Output: 2 3 ml-100k <nil>
}
