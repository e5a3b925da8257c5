package main

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// environment makes the virtual environment dir with the requirements of a file,
// where it is not there with just those, and returns its Python.
func environment(ctx context.Context, dir, file string) (string, error) {
	python := filepath.Join(dir, "bin", "python")
	requirements, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	// A copy is left when all is installed, to see later whether it still is.
	installed := filepath.Join(dir, "requirements.txt")
	if before, err := os.ReadFile(installed); err == nil && bytes.Equal(before, requirements) {
		return python, nil
	}
	fmt.Fprintf(os.Stderr, "bench: installing the peers in %s \n", dir)
	for _, args := range [][]string{
		{"python3", "-m", "venv", "--clear", dir},
		{python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", file},
	} {
		c := exec.CommandContext(ctx, args[0], args[1:]...)
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return "", fmt.Errorf("install the peers: %s: %w", strings.Join(args, " "), err)
		}
	}
	if runtime.GOOS == "linux" { // elsewhere the wheel wants no CUDA
		if err := withoutCUDA(dir); err != nil {
			return "", fmt.Errorf("install the peers: %w", err)
		}
	}
	return python, os.WriteFile(installed, requirements, 0o644)
}

// withoutCUDA lets PyTorch load without the CUDA libraries that its wheel is
// linked with: each that is missing in the virtual environment dir gets an empty
// stand-in. Together they are gigabytes, and a run on the CPU calls none of them.
func withoutCUDA(dir string) error {
	const standIn = "libc10.so" // loaded in any case, and without symbol versions that would be compared
	packages := filepath.Join(dir, "lib", "python3*", "site-packages")
	files, err := filepath.Glob(filepath.Join(packages, "torch", "lib", "*.so"))
	if err != nil {
		return err
	}
	for _, path := range files {
		f, err := elf.Open(path)
		if err != nil {
			return err
		}
		needed, err := f.ImportedLibraries()
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, name := range needed {
			if !strings.HasPrefix(name, "libcu") && !strings.HasPrefix(name, "libnv") && !strings.HasPrefix(name, "libnccl") {
				continue
			}
			there, err := filepath.Glob(filepath.Join(packages, "nvidia", "*", "lib", name))
			if err != nil {
				return err
			}
			if len(there) > 0 {
				continue
			}
			if err := os.Symlink(standIn, filepath.Join(filepath.Dir(path), name)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}

// peer is a process that takes steps when it is told to. Between them it waits
// for input and leaves the processors alone.
type peer struct {
	cmd        *exec.Cmd
	in         io.WriteCloser
	out        *bufio.Reader
	stderr     bytes.Buffer
	version    string
	parameters int
}

// startPeer starts a script of folder peers and waits until it is ready.
func startPeer(ctx context.Context, python, peers string, script []string) (*peer, error) {
	return startProcess(ctx, append([]string{python, filepath.Join(peers, script[0])}, script[1:]...)...)
}

// startProcess starts a program that says what it is, as peers do.
func startProcess(ctx context.Context, args ...string) (*peer, error) {
	p := &peer{cmd: exec.CommandContext(ctx, args[0], args[1:]...)}
	p.cmd.Stderr = &p.stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if err := p.read(&p.version, &p.parameters); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

// run takes one step that does not count and n that do, and returns the seconds
// that those took.
func (p *peer) run(n int) (seconds float64, err error) {
	if _, err := fmt.Fprintln(p.in, n); err != nil {
		return 0, fmt.Errorf("%s: %w: %s", p.name(), err, p.stderr.String())
	}
	return seconds, p.read(&seconds)
}

// read reads a line of values.
func (p *peer) read(to ...any) error {
	line, err := p.out.ReadString('\n')
	if err == nil {
		_, err = fmt.Sscan(line, to...)
	}
	if err != nil {
		return fmt.Errorf("%s: read %q: %w: %s", p.name(), line, err, p.stderr.String())
	}
	return nil
}

func (p *peer) name() string { return strings.Join(p.cmd.Args[:min(2, len(p.cmd.Args))], " ") }

// close ends the process: with its input, its work ends too.
func (p *peer) close() error {
	return errors.Join(p.in.Close(), p.cmd.Wait())
}
