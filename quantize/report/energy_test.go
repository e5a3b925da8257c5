package report_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/wisp-project/wisp/quantize/report"
)

// counter makes or changes a counter as Linux shows them.
func counter(t *testing.T, root, zone, name, energy string) {
	t.Helper()
	dir := filepath.Join(root, zone)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"name": name, "energy_uj": energy, "max_energy_range_uj": "1000000000"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMeter(t *testing.T) {
	root := t.TempDir()
	counter(t, root, "intel-rapl:0", "package-0", "5000000")
	counter(t, root, "intel-rapl:1", "package-1", "999000000")
	counter(t, root, "intel-rapl:0:0", "core", "1")  // part of package 0
	counter(t, root, "intel-rapl:2", "psys", "1000") // the whole platform, packages included
	m, err := report.OpenMeter(root)
	if err != nil {
		t.Fatal(err)
	}
	joules, err := m.Start()
	if err != nil {
		t.Fatal(err)
	}
	counter(t, root, "intel-rapl:0", "package-0", "7500000") // 2.5 J
	counter(t, root, "intel-rapl:1", "package-1", "500000")  // went round: 1.5 J
	counter(t, root, "intel-rapl:0:0", "core", "900000000")
	counter(t, root, "intel-rapl:2", "psys", "900000000")
	if got, err := joules(); err != nil || math.Abs(got-4) > 1e-9 {
		t.Errorf("%v J, %v; want 4", got, err)
	}
	if err := os.WriteFile(filepath.Join(root, "intel-rapl:1", "energy_uj"), []byte("much"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := joules(); err == nil {
		t.Error("a damaged counter was read")
	}
}

func TestMeterAbsent(t *testing.T) {
	if _, err := report.OpenMeter(t.TempDir()); err == nil {
		t.Error("a folder without counters was opened")
	}
	root := t.TempDir()
	counter(t, root, "intel-rapl:0", "package-0", "5")
	if err := os.Remove(filepath.Join(root, "intel-rapl:0", "energy_uj")); err != nil {
		t.Fatal(err)
	}
	if _, err := report.OpenMeter(root); err == nil {
		t.Error("a counter that cannot be read was opened")
	}
}
