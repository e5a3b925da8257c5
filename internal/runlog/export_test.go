package runlog

import "os"

// SetMetricsFile makes r write its metrics to f, for a disk that fills up.
func (r *Run) SetMetricsFile(f *os.File) (old *os.File) {
	old, r.metrics = r.metrics, f
	return old
}
