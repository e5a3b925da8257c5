//go:build !windows

// Command ptx compiles the kernels for GPUs with NVRTC, which needs neither a GPU nor
// its driver: `make ptx` fetches the library and calls it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ebitengine/purego"
)

// architecture is the oldest that is served. Drivers compile PTX for what they find:
// that of compute capability 5.2 runs on all that came after.
const architecture = "compute_52"

func main() {
	library := flag.String("nvrtc", "", "NVRTC's `library`, such as libnvrtc.so.11.2")
	source := flag.String("source", "hostgpu/cuda/kernels.cu", "file to compile")
	out := flag.String("out", "", "`file` for the PTX")
	check := flag.Bool("check", false, "write nothing, and fail where --out is not what would be written")
	flag.Parse()
	if err := run(*library, *source, *out, *check); err != nil {
		fmt.Fprintln(os.Stderr, "ptx:", err)
		os.Exit(1)
	}
}

func run(library, source, out string, check bool) error {
	ptx, err := compile(library, source)
	if err != nil {
		return err
	}
	if !check {
		return os.WriteFile(out, ptx, 0o644)
	}
	was, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	if !bytes.Equal(was, ptx) {
		return fmt.Errorf("%s is not what %s compiles to; run make ptx and commit it", out, source)
	}
	return nil
}

// nvrtc are the functions of the library that are used; a result of 0 is success.
type nvrtc struct {
	createProgram     func(program *uintptr, source, name string, headers int32, texts, names uintptr) int32
	compileProgram    func(program uintptr, options int32, option **byte) int32
	getProgramLogSize func(program uintptr, size *uint64) int32
	getProgramLog     func(program uintptr, log *byte) int32
	getPTXSize        func(program uintptr, size *uint64) int32
	getPTX            func(program uintptr, ptx *byte) int32
}

func open(library string) (*nvrtc, error) {
	lib, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	n := &nvrtc{}
	for name, fn := range map[string]any{
		"nvrtcCreateProgram": &n.createProgram, "nvrtcCompileProgram": &n.compileProgram,
		"nvrtcGetProgramLogSize": &n.getProgramLogSize, "nvrtcGetProgramLog": &n.getProgramLog,
		"nvrtcGetPTXSize": &n.getPTXSize, "nvrtcGetPTX": &n.getPTX,
	} {
		p, err := purego.Dlsym(lib, name)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(fn, p)
	}
	return n, nil
}

func compile(library, source string) ([]byte, error) {
	text, err := os.ReadFile(source)
	if err != nil {
		return nil, err
	}
	n, err := open(library)
	if err != nil {
		return nil, err
	}
	var program uintptr
	if r := n.createProgram(&program, string(text), filepath.Base(source), 0, 0, 0); r != 0 {
		return nil, fmt.Errorf("nvrtcCreateProgram: error %d", r)
	}
	var options []*byte
	for _, o := range []string{"--gpu-architecture=" + architecture, "--std=c++17", "--include-path=" + filepath.Dir(source)} {
		options = append(options, &append([]byte(o), 0)[0])
	}
	if r := n.compileProgram(program, int32(len(options)), &options[0]); r != 0 {
		log, err := fetch(program, n.getProgramLogSize, n.getProgramLog)
		return nil, errors.Join(fmt.Errorf("%s does not compile (error %d):\n%s", source, r, log), err)
	}
	return fetch(program, n.getPTXSize, n.getPTX)
}

// fetch returns a text that NVRTC holds, without the zero at its end.
func fetch(program uintptr, size func(uintptr, *uint64) int32, get func(uintptr, *byte) int32) ([]byte, error) {
	var length uint64
	if r := size(program, &length); r != 0 || length == 0 {
		return nil, fmt.Errorf("nvrtc: error %d asking for a text of %d bytes", r, length)
	}
	text := make([]byte, length)
	if r := get(program, &text[0]); r != 0 {
		return nil, fmt.Errorf("nvrtc: error %d reading a text", r)
	}
	return text[:length-1], nil
}
