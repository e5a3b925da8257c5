package main

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestConfig runs a command from a file, and expects what the same flags give.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	raw := filepath.Join(dir, "raw")
	file := put(t, filepath.Join(dir, "simulate.yaml"), []byte("# a comment\nout: "+raw+"\nusers: 20\nitems: 40\nevents: 200\nscenario: music\n"))
	simulate := func(args ...string) string {
		t.Helper()
		succeed(t, append([]string{"simulate"}, args...)...)
		return snapshot(t, raw)
	}
	byFlags := simulate("--out", raw, "--users", "20", "--items", "40", "--events", "200", "--scenario", "music")
	if other := simulate("--out", raw, "--users", "30", "--items", "40", "--events", "200"); other == byFlags {
		t.Fatal("other flags give the same files")
	}
	if simulate("--config", file) != byFlags {
		t.Error("the file gives something else than its flags")
	}
	// The command line wins, wherever it has the flag.
	overridden := simulate("--out", raw, "--users", "30", "--items", "40", "--events", "200", "--scenario", "music")
	if simulate("--users", "30", "--config", file) != overridden || simulate("--config", file, "--users", "30") != overridden {
		t.Error("the command line does not win over the file")
	}
}

func TestBadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "c.yaml")
	out := filepath.Join(dir, "out")
	head := "out: " + out + "\n"
	for name, test := range map[string]struct {
		content string
		say     []string
	}{
		"unknown key":          {head + "user: 3\n", []string{"c.yaml:2:", `"user" is no flag of wisp simulate`, `did you mean "users"?`}},
		"dashes":               {head + "--users: 3\n", []string{"c.yaml:2:", `"--users"`, `did you mean "users"?`}},
		"nothing like it":      {head + "frobnicate: 3\n", []string{"c.yaml:2:", `"frobnicate" is no flag`}},
		"a file in a file":     {head + "config: d.yaml\n", []string{"c.yaml:2:", `"config" is no flag`}},
		"not a number":         {head + "users: many\n", []string{"c.yaml:2:", `users is "many", want a whole number`}},
		"too large":            {head + "users: 99999999999999999999\n", []string{"c.yaml:2:", "users", "out of range"}},
		"negative":             {head + "seed: -3\n", []string{"c.yaml:2:", `seed is "-3"`, "not negative"}},
		"no value":             {head + "users:\n", []string{"c.yaml:2:", "users has no value, want a whole number"}},
		"a list":               {head + "users: [1, 2]\n", []string{"c.yaml:2:", "users is a list, want a whole number"}},
		"a mapping":            {head + "scenario:\n  name: music\n", []string{"c.yaml:2:", "scenario is a mapping, want a text"}},
		"twice":                {head + "users: 3\n" + head, []string{"c.yaml:3:", "out is there twice, first in line 1"}},
		"a key of many values": {"? [out]\n: x\n", []string{"c.yaml:1:", "want the name of a flag"}},
		"required flag":        {"users: 3\n", []string{`"out" not set`}},
		"empty":                {"", []string{path, "is empty", `"epochs: 20"`}},
		"comments only":        {"# users: 3\n", []string{path, "is empty"}},
		"an empty document":    {"---\n", []string{path, "is empty"}},
		"prose":                {"users are 3\n", []string{path, "is no mapping"}},
		"a list of flags":      {"- users\n", []string{path, "is no mapping"}},
		"two documents":        {head + "---\nusers: 3\n", []string{path, "second document in line 2"}},
		"not YAML":             {head + "\tusers: 3\n", []string{path, "cannot be read", "line 2"}},
		"what a command wants": {head + "scenario: zoo\n", []string{`"zoo"`, "shop, video or music"}},
	} {
		t.Run(name, func(t *testing.T) {
			fail(t, test.say, "simulate", "--config", put(t, path, []byte(test.content)))
		})
	}
	missing := filepath.Join(dir, "missing.yaml")
	fail(t, []string{missing, "check the path"}, "simulate", "--config", missing)
	fail(t, []string{dir, "is a directory", "check the path"}, "simulate", "--config", dir)
	if _, err := os.Stat(out); err == nil {
		t.Error("it wrote something all the same")
	}
}

// TestConfigKinds sets flags of each kind.
func TestConfigKinds(t *testing.T) {
	for _, test := range []struct {
		flag, value string
		want        string // the flag's value; where it is empty, the error says:
		says        string
	}{
		{"bool", "true", "true", ""},
		{"bool", "yes", "", `"yes", want true or false`},
		{"float", "2e-5", "2e-05", ""},
		{"float", "small", "", `"small", want a number`},
		{"float", "*anchor", "3", ""},
		{"text", "007", "007", ""},
		{"text", "'a: b'", "a: b", ""},
		{"text", "[a]", "", "is a list, want a text"},
		{"list", "[a, 'b,c', 3]", `[a,"b,c",3]`, ""},
		{"list", "a", "[a]", ""},
		{"list", "[]", "", "is a list, want a list of single values"},
		{"list", "[[a]]", "", "is a list, want a list of single values"},
		{"list", "{a: 1}", "", "is a mapping, want a list of single values"},
		{"array", "[a, 'b,c']", `[a,"b,c"]`, ""},
		{"numbers", "[3, 4]", "[3,4]", ""},
		{"numbers", "[3, x]", "", "is not a list of single values, or one: invalid syntax"},
		{"pairs", "{a: 0.5}", "[a=0.5]", ""},
		{"pairs", "a=1", "[a=1]", ""},
		{"pairs", "{a: {b: 1}}", "", "want a mapping of names to single values"},
		{"pairs", "{a: }", "", "want a mapping of names to single values"},
		{"pairs", "{}", "", "want a mapping of names to single values"},
		{"pairs", "x", "", `is "x", want a mapping of names to single values: x must be formatted as key=value`},
		{"counts", "{a: 3}", "[a=3]", ""},
		{"counts", "{a: x}", "", "invalid syntax"},
	} {
		t.Run(test.flag+" "+test.value, func(t *testing.T) {
			flags := pflag.NewFlagSet("kinds", pflag.ContinueOnError)
			flags.Bool("bool", false, "")
			flags.Float64("float", 0, "")
			flags.String("text", "", "")
			flags.StringSlice("list", []string{"default"}, "")
			flags.StringArray("array", []string{"default"}, "")
			flags.IntSlice("numbers", nil, "")
			flags.StringToString("pairs", map[string]string{"default": "x"}, "")
			flags.StringToInt("counts", nil, "")
			entries, err := readConfig([]byte("other: &anchor 3\nflag: " + test.value + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			f := flags.Lookup(test.flag)
			err = setFlag(flags, f, entries[3])
			switch {
			case test.want == "":
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("error %v, want %q", err, test.says)
				}
			case err != nil || f.Value.String() != test.want || !f.Changed:
				t.Errorf("got %s, changed %v (%v), want %s", f.Value, f.Changed, err, test.want)
			}
		})
	}
	// Several pairs add up.
	flags := pflag.NewFlagSet("pairs", pflag.ContinueOnError)
	pairs := flags.StringToString("pairs", nil, "")
	entries, err := readConfig([]byte("pairs:\n  contrastive: 1\n  masked-lm: 0.1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := setFlag(flags, flags.Lookup("pairs"), entries[1]); err != nil || !maps.Equal(*pairs, map[string]string{"contrastive": "1", "masked-lm": "0.1"}) {
		t.Errorf("got %v (%v)", *pairs, err)
	}
}

// TestConfigTakesEveryFlag writes the default of every flag of every command into
// a file: there is no kind of flag that a file cannot have.
func TestConfigTakesEveryFlag(t *testing.T) {
	for _, c := range newRoot().Commands() {
		t.Run(c.Name(), func(t *testing.T) {
			c.InitDefaultHelpFlag()
			var lines []string
			c.Flags().VisitAll(func(f *pflag.Flag) {
				value := f.DefValue
				switch _, isList := f.Value.(pflag.SliceValue); {
				case isList:
					value = "[1]" // a word or a number
				case takesPairs(f):
					name, v, _ := strings.Cut(value, "=")
					value = "{" + name + ": " + v + "}"
				case f.Value.Type() == "size":
					value = "2MB" // the default is none
				case f.Value.Type() == "string":
					value = strconv.Quote(value)
				}
				if mayConfigure(f) {
					lines = append(lines, f.Name+": "+value+"\n")
				}
			})
			path := put(t, filepath.Join(t.TempDir(), "c.yaml"), []byte(strings.Join(append(lines, "\n"), "")))
			if len(lines) == 0 {
				return
			}
			if err := c.ParseFlags([]string{"--config", path}); err != nil {
				t.Fatal(err)
			}
			if err := applyConfig(c); err != nil {
				t.Fatalf("%v in\n%s", err, get(t, path))
			}
			if err := c.ValidateRequiredFlags(); err != nil {
				t.Error(err)
			}
			changed := 0
			c.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Changed && mayConfigure(f) {
					changed++
				}
			})
			if changed != len(lines) {
				t.Errorf("%d flags were set of %d in\n%s", changed, len(lines), get(t, path))
			}
		})
	}
}
