package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const retrainExamples = "../../examples/retrain"

// TestRetrainExampleConfig reads the flags of the example as the command would.
func TestRetrainExampleConfig(t *testing.T) {
	c, args, err := newRoot().Find([]string{"retrain", "--config", filepath.Join(retrainExamples, "retrain.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	if err := parse(c, args); err != nil {
		t.Fatal(err)
	}
	if err := applyConfig(c); err != nil {
		t.Fatal(err)
	}
	for flag, want := range map[string]string{"state": "/var/lib/wisp/shop", "as": "shop", "margin": "0.01"} {
		if got := c.Flag(flag).Value.String(); got != want {
			t.Errorf("--%s is %q, want %q", flag, got, want)
		}
	}
}

// TestRetrainExampleUnits has systemd check its files.
func TestRetrainExampleUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	verify := func(change func(b []byte) []byte) error {
		var paths []string
		for _, name := range []string{"wisp-retrain.service", "wisp-retrain.timer"} {
			b := bytes.ReplaceAll(get(t, filepath.Join(retrainExamples, name)), []byte("/usr/local/bin/wisp"), []byte(exe)) // it must be there
			paths = append(paths, put(t, filepath.Join(dir, name), change(b)))
		}
		out, err := exec.CommandContext(t.Context(), analyze, append([]string{"verify", "--recursive-errors=no"}, paths...)...).CombinedOutput()
		if err == nil && bytes.Contains(out, []byte(dir)) { // what it only warns of
			err = fmt.Errorf("%s", out)
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if err := verify(func(b []byte) []byte { return b }); err != nil {
		t.Error(err)
	}
	if err := verify(func(b []byte) []byte { return bytes.Replace(b, []byte("Mon *-*-*"), []byte("Someday"), 1) }); err == nil {
		t.Error("a timer without a time passes")
	}
}

// TestRetrainExampleCodes compares the codes in the examples with those of the command.
func TestRetrainExampleCodes(t *testing.T) {
	unit := string(get(t, filepath.Join(retrainExamples, "wisp-retrain.service")))
	if want := fmt.Sprintf("\nRestartPreventExitStatus=%d %d %d\n", exitRefused, exitEvents, exitLocked); !strings.Contains(unit, want) {
		t.Errorf("the unit lacks %q", want)
	}
	readme := string(get(t, filepath.Join(retrainExamples, "README.md")))
	for _, code := range []int{0, exitError, exitRefused, exitEvents, exitLocked, exitInterrupted} {
		if !strings.Contains(readme, fmt.Sprintf("\n| %d | ", code)) {
			t.Errorf("README.md does not say what %d is", code)
		}
	}
	var job struct {
		Spec struct {
			JobTemplate struct {
				Spec struct {
					PodFailurePolicy struct {
						Rules []struct {
							Action      string `yaml:"action"`
							OnExitCodes struct {
								Values []int `yaml:"values"`
							} `yaml:"onExitCodes"`
						} `yaml:"rules"`
					} `yaml:"podFailurePolicy"`
					Template struct {
						Spec struct {
							RestartPolicy string `yaml:"restartPolicy"`
							Containers    []struct {
								Command []string `yaml:"command"`
							} `yaml:"containers"`
						} `yaml:"spec"`
					} `yaml:"template"`
				} `yaml:"spec"`
			} `yaml:"jobTemplate"`
		} `yaml:"spec"`
	}
	if err := yaml.Unmarshal(get(t, filepath.Join(retrainExamples, "cronjob.yaml")), &job); err != nil {
		t.Fatal(err)
	}
	spec := job.Spec.JobTemplate.Spec
	if r := spec.PodFailurePolicy.Rules; len(r) == 0 || r[0].Action != "FailJob" || !slices.Equal(r[0].OnExitCodes.Values, []int{exitRefused, exitEvents}) {
		t.Errorf("the job tries again, or not, after %+v", r)
	}
	if c := spec.Template.Spec.Containers; len(c) != 1 || spec.Template.Spec.RestartPolicy != "Never" {
		t.Errorf("%d containers, restart %s; a policy for failures needs one that is never restarted", len(c), spec.Template.Spec.RestartPolicy)
	} else if target, args, err := newRoot().Find(c[0].Command[1:]); err != nil || parse(target, args) != nil || target.Name() != "retrain" {
		t.Errorf("the command %q: %v", c[0].Command, err)
	}
}
