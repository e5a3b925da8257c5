package data

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/wisp-project/wisp/internal/atomicfile"
)

// Runner runs a program to its end. Its error wraps exec.ErrNotFound where
// there is no such program.
type Runner func(ctx context.Context, name string, args ...string) error

// maxFetched is the most bytes of a package, and of one file in it.
const maxFetched = 16 << 20

// example is a data set that a package on a registry carries as an example.
type example struct {
	Package, Hash, Folder string            // the package, its SHA-256 and the folder in it
	Terms                 string            // written beside the files
	Files                 map[string]string // name and SHA-256
}

var ml100k = example{
	Package: "recbole==1.2.1",
	Hash:    "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
	Folder:  "recbole/dataset_example/ml-100k/",
	Terms:   ml100kTerms,
	Files: map[string]string{
		"ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
		"ml-100k.item":  "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
		"ml-100k.user":  "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
	},
}

const ml100kTerms = `MovieLens 100K was collected by the GroupLens Research Project at the
University of Minnesota. Its terms: it may be used for research; it may not be
redistributed, nor used for commercial purposes, without permission from
GroupLens; nobody may state or imply their endorsement. These files came from
the example data of the package recbole 1.2.1 and are not part of this project.

Publications must cite:
F. Maxwell Harper and Joseph A. Konstan. 2015. The MovieLens Datasets: History
and Context. ACM Transactions on Interactive Intelligent Systems 5, 4, Article
19. https://doi.org/10.1145/2827872
`

// FetchML100K brings MovieLens 100K, in the recbole format, into the folder
// dir, together with its terms: it has pip download the package that carries
// it, checks the package and unpacks it. If the files are there already nothing
// is done. A nil run starts programs. Errors wrap ErrUnavailable where pip is
// missing or no registry answers, and ErrChecksum where the contents are not
// those expected; dir then has no new file.
func FetchML100K(ctx context.Context, dir string, run Runner) error {
	return ml100k.fetch(ctx, dir, run)
}

func (x example) fetch(ctx context.Context, dir string, run Runner) error {
	if x.complete(dir) {
		return nil
	}
	if run == nil {
		run = runProgram
	}
	tmp, err := os.MkdirTemp("", "fetch-")
	if err != nil {
		return fmt.Errorf("data: fetch: %w", err)
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // what is left over is only a temporary folder
	args := []string{"download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", x.Package, "-d", tmp}
	err = run(ctx, "python3", append([]string{"-m", "pip"}, args...)...)
	if err != nil && ctx.Err() == nil {
		if again := run(ctx, "pip", args...); again == nil || !errors.Is(again, exec.ErrNotFound) {
			err = again
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: pip download %s: %w; check that pip and a registry can be reached, or put the files into %s by hand", ErrUnavailable, x.Package, err, dir)
	}
	files, err := x.unpack(tmp)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("data: fetch: %w", err)
	}
	files["TERMS.txt"] = []byte(x.Terms)
	for name, b := range files {
		if err := atomicfile.Write(filepath.Join(dir, name), b); err != nil {
			return fmt.Errorf("data: fetch: %w", err)
		}
	}
	return nil
}

// complete says whether dir has every file with its hash.
func (x example) complete(dir string) bool {
	for name, hash := range x.Files {
		if f, err := describe(filepath.Join(dir, name)); err != nil || f.SHA256 != hash {
			return false
		}
	}
	return true
}

// unpack returns the checked files of the package that lies in dir.
func (x example) unpack(dir string) (map[string][]byte, error) {
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return nil, fmt.Errorf("%w: pip left %d packages, not 1", ErrUnavailable, len(wheels))
	}
	f, err := os.Open(wheels[0])
	if err != nil {
		return nil, fmt.Errorf("data: fetch: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	wheel, err := readMost(f)
	if err != nil {
		return nil, err
	}
	if err := checkHash(filepath.Base(wheels[0]), wheel, x.Hash); err != nil {
		return nil, err
	}
	z, err := zip.NewReader(bytes.NewReader(wheel), int64(len(wheel)))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrChecksum, err)
	}
	files := map[string][]byte{}
	for name, hash := range x.Files {
		r, err := z.Open(x.Folder + name)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrChecksum, err)
		}
		b, err := readMost(r)
		if err = closeAfter(err, r); err != nil {
			return nil, err
		}
		if err := checkHash(name, b, hash); err != nil {
			return nil, err
		}
		files[name] = b
	}
	return files, nil
}

func readMost(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFetched+1))
	if err != nil {
		return nil, fmt.Errorf("data: fetch: %w", err)
	}
	if len(b) > maxFetched {
		return nil, fmt.Errorf("%w: over %d bytes", ErrChecksum, maxFetched)
	}
	return b, nil
}

func checkHash(name string, b []byte, want string) error {
	sum := sha256.Sum256(b)
	if got := hex.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("%w: %s has SHA-256 %s, not %s; do not use it", ErrChecksum, name, got, want)
	}
	return nil
}

func runProgram(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out[max(0, len(out)-500):]))
	}
	return nil
}
