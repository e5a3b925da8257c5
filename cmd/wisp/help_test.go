package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestHelpListsCommands(t *testing.T) {
	help := succeed(t, "--help")
	for _, want := range []string{
		"data", "pull", "simulate", "prepare", "pretrain", "finetune", "train", "cross", "ensemble", "distil", "prune", "fit-ratings", "fit-classes", "compress",
		"eval", "report", "recommend", "inspect", "keygen", "sign", "publish", "verify", "retrain", "doctor", "results",
	} {
		if !strings.Contains(help, "\n  "+want+" ") {
			t.Errorf("wisp --help does not list %s:\n%s", want, help)
		}
	}
}

// TestExamples parses every example as its command would. Those of the root are
// lines for other commands.
func TestExamples(t *testing.T) {
	for _, c := range append(newRoot().Commands(), newRoot()) {
		t.Run(c.Name(), func(t *testing.T) {
			if c.Short == "" || c.Long == "" || c.Example == "" {
				t.Fatalf("short %q, long %q, example %q", c.Short, c.Long, c.Example)
			}
			if strings.HasSuffix(c.Short, ".") || len(c.Short) > 80 {
				t.Errorf("short help %q is no short title", c.Short)
			}
			own := false
			for line := range strings.Lines(c.Example) {
				line, _, _ = strings.Cut(line, " | ")
				line, _, _ = strings.Cut(line, " > ")
				words := fields(line)
				if len(words) < 2 || words[0] != "wisp" {
					t.Errorf("example %q does not run wisp", line)
					continue
				}
				target, args, err := newRoot().Find(words[1:])
				if err != nil {
					t.Errorf("example %q: %v", line, err)
					continue
				}
				if c.HasParent() {
					own = own || target.Name() == c.Name()
				} else {
					own = true
				}
				if err := parse(target, args); err != nil {
					t.Errorf("example %q: %v", line, err)
				}
			}
			if !own {
				t.Errorf("no example of %s among\n%s", c.Name(), c.Example)
			}
		})
	}
}

// parse does what cobra does with a command line before it runs the command.
func parse(c *cobra.Command, args []string) error {
	if err := c.ParseFlags(args); err != nil {
		return err
	}
	if err := c.ValidateArgs(c.Flags().Args()); err != nil {
		return err
	}
	return c.ValidateRequiredFlags()
}

// fields cuts a line at blanks, save those within double quotes.
func fields(line string) []string {
	quoted := false
	return strings.FieldsFunc(strings.TrimSpace(line), func(r rune) bool {
		if r == '"' {
			quoted = !quoted
			return true
		}
		return r == ' ' && !quoted
	})
}

func TestMisuse(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		say  []string
	}{
		"unknown command":   {[]string{"trian"}, []string{"trian", "train", "see wisp --help"}},
		"unknown flag":      {[]string{"train", "--frob"}, []string{"--frob", "see wisp train --help"}},
		"missing flag":      {[]string{"train", "prepared"}, []string{`"out"`, "see wisp train --help"}},
		"missing argument":  {[]string{"inspect"}, []string{"1 arg", "see wisp inspect --help"}},
		"excess argument":   {[]string{"doctor", "x"}, []string{`"x"`, "see wisp doctor --help"}},
		"bad number":        {[]string{"train", "p", "--out", "m", "--epochs", "many"}, []string{"many", "epochs", "see wisp train --help"}},
		"unknown data set":  {[]string{"data", "ml-1b", "--out", "x"}, []string{"ml-1b", "see wisp data --help"}},
		"user without data": {[]string{"recommend", "x.wisp", "--user", "u"}, []string{"--user and --data"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := wisp(t.Context(), test.args...)
			if o.code != exitError || o.stdout != "" {
				t.Errorf("exit %d, standard output %q", o.code, o.stdout)
			}
			for _, w := range test.say {
				if !strings.Contains(o.stderr, w) {
					t.Errorf("standard error lacks %q: %s", w, o.stderr)
				}
			}
		})
	}
}

// TestDataUnavailable fetches on a machine without a package client.
func TestDataUnavailable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	out := filepath.Join(t.TempDir(), "raw")
	o := wisp(t.Context(), "data", "ml-100k", "--out", out)
	if o.code != exitUnavailable || !strings.Contains(o.stderr, "check that pip and a registry can be reached") {
		t.Errorf("exit %d, want %d: %s", o.code, exitUnavailable, o.stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Errorf("%s was made all the same", out)
	}
}

func TestVersion(t *testing.T) {
	if words := strings.Fields(succeed(t, "--version")); !slices.Equal(words, []string{"wisp", "version", version()}) || version() == "" {
		t.Errorf("wisp --version says %q", words)
	}
}

func TestResultsNamesWhatItKnows(t *testing.T) {
	for flag, want := range map[string]string{"--set": "ml-latest-small", "--topic": "teachers"} {
		fail(t, []string{`"nope" is unknown`, want}, "results", flag, "nope", "--work", t.TempDir(), "--docs", t.TempDir())
	}
}
