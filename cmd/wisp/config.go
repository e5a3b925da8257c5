package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// configFlag is the flag of every command that names a file of its other flags.
const configFlag = "config"

// applyConfig sets those flags of cmd that the file of --config has and the
// command line has not.
func applyConfig(cmd *cobra.Command) error {
	flags := cmd.Flags()
	named := flags.Lookup(configFlag)
	if named == nil || !named.Changed {
		return nil
	}
	path := named.Value.String()
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("--%s: %w; check the path", configFlag, err)
	}
	entries, err := readConfig(content)
	if err != nil {
		return fmt.Errorf("%s %w", path, err)
	}
	lines := map[string]int{}
	for i := 0; i < len(entries); i += 2 {
		key, value := entries[i], entries[i+1]
		at := fmt.Sprintf("%s:%d: ", path, key.Line)
		if key.Kind != yaml.ScalarNode {
			return fmt.Errorf("%sa key is not a single value; want the name of a flag", at)
		}
		if line, twice := lines[key.Value]; twice {
			return fmt.Errorf("%s%s is there twice, first in line %d; remove one", at, key.Value, line)
		}
		lines[key.Value] = key.Line
		f := flags.Lookup(key.Value)
		switch {
		case f == nil || !mayConfigure(f):
			return fmt.Errorf("%s%q is no flag of %s%s", at, key.Value, cmd.CommandPath(), nearestFlag(flags, key.Value))
		case f.Changed: // on the command line
			continue
		}
		if err := setFlag(flags, f, value); err != nil {
			return fmt.Errorf("%s%s %w", at, key.Value, err)
		}
	}
	return nil
}

// mayConfigure says that a flag may be in a file.
func mayConfigure(f *pflag.Flag) bool { return f.Name != configFlag && f.Name != "help" }

// readConfig returns the keys and values of a YAML mapping, in turn. An error
// goes on from the name of the file.
func readConfig(content []byte) ([]*yaml.Node, error) {
	const form = "write a flag a line, as in \"epochs: 20\""
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(content))
	err := d.Decode(&doc)
	if err == nil {
		if err = d.Decode(&more); err == nil {
			return nil, fmt.Errorf("has a second document in line %d; want one", more.Line)
		}
	}
	switch {
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("cannot be read: %w", err)
	case doc.IsZero() || doc.Content[0].ShortTag() == "!!null":
		return nil, errors.New("is empty; " + form)
	case doc.Content[0].Kind != yaml.MappingNode:
		return nil, errors.New("is no mapping of flags to values; " + form)
	}
	return doc.Content[0].Content, nil
}

// setFlag sets a flag to a value of a file, as the command line would. A list is
// all of a flag's values, a mapping is given as key=value. An error goes on from
// the name of the flag.
func setFlag(flags *pflag.FlagSet, f *pflag.Flag, value *yaml.Node) error {
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	list, isList := f.Value.(pflag.SliceValue)
	var wrong error
	switch {
	case value.ShortTag() == "!!null":
		return fmt.Errorf("has no value, want %s", wanted(f))
	case value.Kind == yaml.ScalarNode:
		wrong = flags.Set(f.Name, value.Value)
	case value.Kind == yaml.SequenceNode && isList && scalars(value.Content):
		var values []string
		for _, v := range value.Content {
			values = append(values, v.Value)
		}
		wrong = list.Replace(values)
		f.Changed = true
	case value.Kind == yaml.MappingNode && takesPairs(f) && scalars(value.Content):
		for i := 0; i < len(value.Content) && wrong == nil; i += 2 {
			wrong = flags.Set(f.Name, value.Content[i].Value+"="+value.Content[i+1].Value)
		}
	case value.Kind == yaml.SequenceNode:
		return fmt.Errorf("is a list, want %s", wanted(f))
	default:
		return fmt.Errorf("is a mapping, want %s", wanted(f))
	}
	if wrong == nil {
		return nil
	}
	// What the flag itself says, without what pflag and strconv put around it.
	if invalid := (*pflag.InvalidValueError)(nil); errors.As(wrong, &invalid) {
		wrong = invalid.Unwrap()
	}
	if number := (*strconv.NumError)(nil); errors.As(wrong, &number) {
		wrong = number.Err
	}
	if value.Kind == yaml.ScalarNode {
		return fmt.Errorf("is %q, want %s: %w", value.Value, wanted(f), wrong)
	}
	return fmt.Errorf("is not %s: %w", wanted(f), wrong)
}

// scalars says that there are nodes, and that each has a single value.
func scalars(nodes []*yaml.Node) bool {
	for _, n := range nodes {
		if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
			return false
		}
	}
	return len(nodes) > 0
}

// takesPairs says that a flag's value is key=value.
func takesPairs(f *pflag.Flag) bool { return strings.HasPrefix(f.Value.Type(), "stringTo") }

// wanted describes the values of a flag.
func wanted(f *pflag.Flag) string {
	_, isList := f.Value.(pflag.SliceValue)
	switch kind := f.Value.Type(); {
	case isList:
		return "a list of single values, or one"
	case takesPairs(f):
		return "a mapping of names to single values"
	case kind == "bool":
		return "true or false"
	case kind == "string":
		return "a text"
	case strings.HasPrefix(kind, "int"):
		return "a whole number"
	case strings.HasPrefix(kind, "uint"):
		return "a whole number that is not negative"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	default:
		return "a " + kind
	}
}

// nearestFlag asks for the flag whose name is most like key, if one is.
func nearestFlag(flags *pflag.FlagSet, key string) string {
	key = strings.ReplaceAll(strings.ToLower(strings.TrimLeft(key, "-")), "_", "-")
	nearest, least := "", 1+len(key)/2
	flags.VisitAll(func(f *pflag.Flag) {
		if d := levenshtein.ComputeDistance(key, f.Name); d < least && mayConfigure(f) {
			nearest, least = f.Name, d
		}
	})
	if nearest == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", nearest)
}
