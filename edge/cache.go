package edge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/cpu"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// codeCache is a folder of machine code that kernels were compiled to. wazero
// runs whatever it finds in a folder of its own; so it never sees this one, but a
// private copy of the one entry that was checked.
type codeCache struct {
	dir  string
	root *os.Root
}

const (
	codeMagic  = "wisp machine code v1\n"
	codeSuffix = ".code"
	maxCode    = 256 << 20 // bytes of an entry
	maxCodes   = 64        // entries; the oldest go
	enginePath = "github.com/tetratelabs/wazero"
)

// codeName is what wazero calls an entry, within its folder.
var codeName = regexp.MustCompile(`^wazero-[A-Za-z0-9.+_-]{1,64}/[0-9a-f]{64}$`)

// compiled is a kernel that is ready to be instantiated.
type compiled struct {
	wazero wazero.Runtime
	kernel wazero.CompiledModule
	cache  wazero.CompilationCache // nil without one
	cached bool                    // the code came from the folder
	missed error                   // why the code was not put there
}

func (c *compiled) end(ctx context.Context) error {
	var err error
	if c.wazero != nil {
		err = c.wazero.Close(ctx)
	}
	if c.cache != nil {
		err = errors.Join(err, c.cache.Close(ctx))
	}
	return err
}

// compile compiles a kernel, or takes its code from the folder dir, where one is
// named. A kernel that is not trusted is watched: see watch.
func compile(ctx context.Context, kernel []byte, config wazero.RuntimeConfig, trusted bool, dir string) (compiled, error) {
	if trusted {
		// A panic of the engine on another goroutine would end the process, see make: whose
		// kernel it is must be known.
		ctx = experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0))
	} else {
		config = config.WithCloseOnContextDone(true)
		ctx = experimental.WithFunctionListenerFactory(ctx, watch{})
	}
	if dir == "" {
		return compileIn(ctx, kernel, config, nil)
	}
	cache, err := openCodeCache(dir)
	if err != nil {
		return compiled{}, err
	}
	defer cache.root.Close() //nolint:errcheck // only read from
	// What the folder's owner could not check, wazero does not get.
	staging, err := os.MkdirTemp("", "wisp-code-") // for us alone
	if err != nil {
		return compiled{}, fmt.Errorf("%w: a private folder for the machine code: %w; give the process room in %s", ErrCache, err, os.TempDir())
	}
	defer os.RemoveAll(staging) //nolint:errcheck // the temporary folder is cleaned by others too
	key := codeKey(kernel, trusted)
	name, code, ok := cache.load(key)
	if ok {
		if err := stage(staging, name, code); err != nil {
			return compiled{}, fmt.Errorf("%w: %w; give the process room in %s", ErrCache, err, os.TempDir())
		}
	}
	c, err := compileStaged(ctx, kernel, config, staging)
	if err != nil && ok && ctx.Err() == nil {
		// Whole, and yet not what wazero takes: it is made anew.
		ok = false
		if err = os.RemoveAll(staging); err == nil {
			err = os.Mkdir(staging, 0o700)
		}
		if err != nil {
			return compiled{}, fmt.Errorf("%w: %w", ErrCache, err)
		}
		c, err = compileStaged(ctx, kernel, config, staging)
	}
	if err != nil {
		return c, err
	}
	made, code, err := staged(staging)
	if c.cached = ok && err == nil && made == name; !c.cached {
		if err == nil {
			err = cache.store(key, made, code)
		}
		if err != nil {
			c.missed = fmt.Errorf("%w: %w", ErrCache, err)
		}
	}
	return c, nil
}

func compileStaged(ctx context.Context, kernel []byte, config wazero.RuntimeConfig, staging string) (compiled, error) {
	cache, err := wazero.NewCompilationCacheWithDir(staging)
	if err != nil {
		return compiled{}, fmt.Errorf("%w: %w", ErrCache, err)
	}
	return compileIn(ctx, kernel, config.WithCompilationCache(cache), cache)
}

func compileIn(ctx context.Context, kernel []byte, config wazero.RuntimeConfig, cache wazero.CompilationCache) (compiled, error) {
	c := compiled{cache: cache}
	err := c.make(ctx, kernel, config)
	if err == nil {
		return c, nil
	}
	var system syscall.Errno
	if errors.As(err, &system) {
		err = fmt.Errorf("%w: machine code may not be made in this process: %w; allow it, or choose the interpreter (Options.Interpreter), which is slower", ErrSystem, err)
	} else {
		err = fmt.Errorf("%w: its kernel is not a WebAssembly module of the expected form: %w", ErrArtefact, err)
	}
	return compiled{}, errors.Join(err, c.end(context.WithoutCancel(ctx)))
}

// make compiles. The engine panics where the system refuses it memory for code, and
// might for a kernel that nobody has thought of: neither is to end the process.
func (c *compiled) make(ctx context.Context, kernel []byte, config wazero.RuntimeConfig) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("the engine failed: %w", r)
		default:
			err = fmt.Errorf("the engine failed: %v", r)
		}
	}()
	c.wazero = wazero.NewRuntimeWithConfig(ctx, config)
	c.kernel, err = c.wazero.CompileModule(ctx, kernel)
	return err
}

// openCodeCache opens the folder, which is made where there is none, unless
// somebody else could write to it.
func openCodeCache(dir string) (*codeCache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCache, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCache, err)
	}
	info, err := root.Stat(".")
	if err == nil {
		err = private(info)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s: %w; name a folder that belongs to the user of this process and that nobody else may write to (chmod go-w)", ErrCache, dir, err), root.Close())
	}
	return &codeCache{dir: dir, root: root}, nil
}

// load returns an entry: what wazero calls it, and the code. One that is damaged, of
// something else, or that another user may have written is none.
func (c *codeCache) load(key [sha256.Size]byte) (name string, code []byte, ok bool) {
	f, err := c.root.Open(entryName(key))
	if err != nil {
		return "", nil, false
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxCode || private(info) != nil {
		return "", nil, false
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCode))
	if err != nil {
		return "", nil, false
	}
	return decodeCode(b, key)
}

// store puts an entry into the folder, and removes the oldest beyond maxCodes.
func (c *codeCache) store(key [sha256.Size]byte, name string, code []byte) error {
	err := atomicfile.Replace(filepath.Join(c.dir, entryName(key)), 0o600, func(f *os.File) error {
		_, err := f.Write(encodeCode(key, name, code))
		return err
	})
	if err != nil {
		return err
	}
	all, err := fs.ReadDir(c.root.FS(), ".")
	if err != nil {
		return err
	}
	var entries []fs.FileInfo
	for _, e := range all {
		if info, err := e.Info(); err == nil && strings.HasSuffix(e.Name(), codeSuffix) {
			entries = append(entries, info)
		}
	}
	slices.SortFunc(entries, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, e := range entries[min(len(entries), maxCodes):] {
		if err := c.root.Remove(e.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func entryName(key [sha256.Size]byte) string { return hex.EncodeToString(key[:]) + codeSuffix }

// encodeCode writes an entry: what it is of, what wazero calls it, the code, and a
// digest of all that.
func encodeCode(key [sha256.Size]byte, name string, code []byte) []byte {
	b := append([]byte(codeMagic), key[:]...)
	b = append(b, byte(len(name)))
	b = append(b, name...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(code)))
	b = append(b, code...)
	digest := sha256.Sum256(b)
	return append(b, digest[:]...)
}

func decodeCode(b []byte, key [sha256.Size]byte) (name string, code []byte, ok bool) {
	if len(b) < len(codeMagic)+2*sha256.Size+9 {
		return "", nil, false
	}
	b, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if digest := sha256.Sum256(b); !bytes.Equal(digest[:], sum) {
		return "", nil, false
	}
	head := append([]byte(codeMagic), key[:]...)
	if !bytes.HasPrefix(b, head) {
		return "", nil, false
	}
	b = b[len(head):]
	n := int(b[0])
	if b = b[1:]; len(b) < n+8 {
		return "", nil, false
	}
	name, b = string(b[:n]), b[n:]
	if !codeName.MatchString(name) || binary.LittleEndian.Uint64(b) != uint64(len(b)-8) {
		return "", nil, false
	}
	return name, b[8:], true
}

// stage puts code where wazero looks for it.
func stage(dir, name string, code []byte) error {
	path := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, code, 0o600)
}

// staged returns what wazero has left.
func staged(dir string) (name string, code []byte, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		return "", nil, err
	}
	// The entry of another processor may lie there beside the one just made.
	var newest fs.FileInfo
	for _, path := range files {
		info, err := os.Lstat(path)
		if err != nil {
			return "", nil, err
		}
		if newest == nil || info.ModTime().After(newest.ModTime()) {
			newest, name = info, path
		}
	}
	if newest == nil {
		return "", nil, errors.New("there is no machine code: the kernel runs in the interpreter, as this process or machine has no compiler")
	}
	if code, err = os.ReadFile(name); err != nil {
		return "", nil, err
	}
	rel, err := filepath.Rel(dir, name)
	if name = filepath.ToSlash(rel); err == nil && !codeName.MatchString(name) {
		err = fmt.Errorf("the engine calls its code %q", name)
	}
	return name, code, err
}

// codeKey says what the code is of: the kernel, how it is watched, the compiler,
// and the machine.
func codeKey(kernel []byte, trusted bool) [sha256.Size]byte {
	digest := sha256.Sum256(kernel)
	return sha256.Sum256(fmt.Appendf(nil, "%s%x %v %s %s/%s %+v %+v", codeMagic, digest, trusted, compiler(), runtime.GOOS, runtime.GOARCH, cpu.X86, cpu.ARM64))
}

// compiler identifies the engine's compiler: by the version in the build, or, where
// that says nothing, by the program itself.
var compiler = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path != enginePath {
				continue
			}
			if d.Replace != nil {
				d = d.Replace
			}
			if d.Sum != "" {
				return d.Path + " " + d.Version + " " + d.Sum
			}
		}
	}
	path, err := os.Executable()
	if err == nil {
		var f *os.File
		if f, err = os.Open(path); err == nil {
			defer f.Close() //nolint:errcheck // only read from
			h := sha256.New()
			if _, err = io.Copy(h, f); err == nil {
				return hex.EncodeToString(h.Sum(nil))
			}
		}
	}
	// Nobody else's entry has this name, nor ours of another day.
	return fmt.Sprintf("unknown: process %d, %v", os.Getpid(), err)
})
