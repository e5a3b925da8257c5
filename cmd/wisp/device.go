package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/hostgpu"
)

// deviceFlag adds the flag that says where a command trains.
func deviceFlag(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "device", hostgpu.DeviceAuto,
		"where it trains: auto (a GPU where there is one), cpu, cuda, or cuda-tf32 (products in TF32: faster, less exact)")
}

// openDevice opens the device of that name, "" for the processors without a word. It
// says where a GPU was looked for and is not used.
func openDevice(name string, p *progress) (*hostgpu.Device, error) {
	if name == "" {
		name = hostgpu.DeviceCPU
	}
	d, err := hostgpu.OpenDevice(name)
	if err != nil {
		return nil, fmt.Errorf("--device %s: %w", name, err)
	}
	if why := d.NoGPU(); why != nil {
		p.line("training on the CPU: %v", why)
	}
	return d, nil
}

// deviceName is what a record says of a GPU; it is empty for the processors, of which
// the BLAS is said.
func deviceName(d *hostgpu.Device) string {
	if d.GPU() {
		return d.String()
	}
	return ""
}
