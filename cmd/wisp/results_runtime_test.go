package main

import (
	"testing"
	"time"
)

func TestRuntimeTopic(t *testing.T) {
	topic, err := runtimeFigures(t.Context(), runtimeSizes{items: 200, requests: 5, rounds: 2, many: 300, sandboxes: 20, second: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	values := valuesOf(t, topic.Records)
	for _, name := range []string{"speed.shared-sandbox.p50-us", "speed.requests-per-second-per-core"} {
		if values[name] <= 0 {
			t.Errorf("%s is %v", name, values[name])
		}
	}
	for _, name := range []string{"speed.wiped-sandbox.added-p50-us", "speed.new-sandbox.added-p50-us"} {
		if _, ok := values[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
}
