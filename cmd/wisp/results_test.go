package main

import (
	"testing"

	"github.com/wisp-project/wisp/internal/results"
)

// valuesOf returns the values of records by name, which none may share.
func valuesOf(t *testing.T, records []results.Record) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, r := range records {
		if _, twice := values[r.Name]; twice {
			t.Errorf("%s twice", r.Name)
		}
		values[r.Name] = r.Value
	}
	return values
}
