package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Powercap is where Linux shows the energy counters of processors (RAPL).
const Powercap = "/sys/class/powercap"

// Meter reads the energy that the packages of a machine have taken.
type Meter struct{ zones []zone }

// zone is one counter in microjoules; it goes back to 0 after span.
type zone struct {
	path string
	span uint64
}

// OpenMeter finds the counters of all processor packages below root, which is
// Powercap but in tests. Where there are none, or they may not be read, it returns
// nil and why.
func OpenMeter(root string) (*Meter, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "intel-rapl:*"))
	if err != nil {
		return nil, fmt.Errorf("report: energy: %w", err)
	}
	m := &Meter{}
	for _, dir := range dirs {
		name, err := os.ReadFile(filepath.Join(dir, "name"))
		// Parts of a package, such as its cores, are counted with it.
		if err != nil || !strings.HasPrefix(string(name), "package") {
			continue
		}
		z := zone{path: filepath.Join(dir, "energy_uj")}
		if _, err := readCounter(z.path); err != nil {
			return nil, err
		}
		if z.span, err = readCounter(filepath.Join(dir, "max_energy_range_uj")); err != nil {
			return nil, err
		}
		m.zones = append(m.zones, z)
	}
	if len(m.zones) == 0 {
		return nil, fmt.Errorf("report: energy: no counter of a processor package below %s", root)
	}
	return m, nil
}

func readCounter(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("report: energy: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("report: energy: %s: %w", path, err)
	}
	return n, nil
}

// Start returns a function that says how many joules the packages have taken since.
// Counters go round within minutes: the function is to be asked before that.
func (m *Meter) Start() (func() (float64, error), error) {
	before := make([]uint64, len(m.zones))
	var err error
	for i, z := range m.zones {
		if before[i], err = readCounter(z.path); err != nil {
			return nil, err
		}
	}
	return func() (float64, error) {
		var joules float64
		for i, z := range m.zones {
			after, err := readCounter(z.path)
			if err != nil {
				return 0, err
			}
			if after < before[i] { // it went round
				after += z.span
			}
			joules += float64(after-before[i]) / 1e6
		}
		return joules, nil
	}, nil
}

// modelEnergy estimates the energy of a request by the time of cores that it takes.
func modelEnergy(w Workload, s Speed) Energy {
	return Energy{
		Joules: s.CoreSeconds() * w.WattsPerCore, Source: "model",
		How: fmt.Sprintf("%.3g core-milliseconds at %g W a busy core", 1000*s.CoreSeconds(), w.WattsPerCore),
	}
}

// estimateEnergy fills in the energy of models that none was measured for, by the
// assumption of the workload.
func (r *Report) estimateEnergy() {
	for i := range r.Models {
		if m := &r.Models[i]; m.Energy.Source != "rapl" {
			m.Energy = modelEnergy(r.Prices.Workload, m.Speed)
		}
	}
}
