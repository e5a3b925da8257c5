package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os/exec"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/tetratelabs/wazero"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/layout"
	"github.com/wisp-project/wisp/internal/vec"
	"github.com/wisp-project/wisp/wasm"
)

func newDoctor() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has and what it lacks",
		Long: `Says which matrix library, which loops and which GPU training uses, whether the sandbox works, and which
optional programs are there. Always exits with status 0 unless the sandbox fails.`,
		Example: `  wisp doctor`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "wisp      %s, %s, %s/%s, %d CPUs\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
			blas := hostgpu.BLAS()
			fmt.Fprintf(out, "BLAS      %s (%s)\n", blas.Name, blas.Detail)
			if blas.Hint != "" {
				fmt.Fprintf(out, "          %s\n", blas.Hint)
			}
			loops := "AVX2 instructions"
			if !vec.Wide() {
				loops = "plain Go, several times slower: a build by make for an amd64 processor with AVX2 has vector instructions"
			}
			fmt.Fprintf(out, "loops     %s\n", loops)
			if err := describeGPU(out); err != nil {
				return err
			}
			if err := tryKernel(cmd); err != nil {
				return fmt.Errorf("sandbox: the kernel does not run here: %w", err)
			}
			fmt.Fprintf(out, "sandbox   wazero runs the kernel: ABI %d, %d bytes, SHA-256 %x\n", layout.ABI, len(wasm.Kernel), sha256.Sum256(wasm.Kernel))
			for _, tool := range []struct{ names, use string }{
				{"python3", "wisp data fetches data sets with pip"},
				{"clang-19", "make wasm rebuilds the kernel"},
				{"wasm-ld-19", "make wasm rebuilds the kernel"},
				{"node", "the tests run the kernel on V8 too"},
				{"qemu-aarch64", "the tests run on arm64 too"},
			} {
				state := "missing"
				if path, err := exec.LookPath(tool.names); err == nil {
					state = path
				}
				fmt.Fprintf(out, "%-9s %s (%s)\n", tool.names, state, tool.use)
			}
			return nil
		},
	}
}

// describeGPU says which GPU training uses, or why none.
func describeGPU(out io.Writer) error {
	device, err := hostgpu.OpenDevice(hostgpu.DeviceAuto)
	if err != nil {
		return err
	}
	if why := device.NoGPU(); why != nil {
		fmt.Fprintf(out, "GPU       none: %v\n", why)
	} else {
		fmt.Fprintf(out, "GPU       %s\n", device)
	}
	return device.Close()
}

// tryKernel compiles and instantiates the kernel and asks for its ABI.
func tryKernel(cmd *cobra.Command) error {
	ctx := cmd.Context()
	r := wazero.NewRuntime(ctx)
	defer func() { _ = r.Close(ctx) }()
	mod, err := r.Instantiate(ctx, wasm.Kernel)
	if err != nil {
		return err
	}
	abi, err := mod.ExportedFunction("wisp_abi").Call(ctx)
	if err != nil {
		return err
	}
	if abi[0] != layout.ABI {
		return fmt.Errorf("it has ABI %d, this program ABI %d", abi[0], layout.ABI)
	}
	return nil
}
