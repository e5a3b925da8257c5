package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/edge"
)

// ruleFlags are rules as a command line has them: those of daily use, and a file for
// all there are.
type ruleFlags struct {
	file            string
	require, forbid []string
	perCategory     int
	diversity       float32
}

func (r *ruleFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&r.require, "require", nil, "only items of this `category`, or with this NAME=VALUE; repeated, any of them")
	f.StringArrayVar(&r.forbid, "forbid", nil, "no items of this `category`, or with this NAME=VALUE; may be repeated")
	f.IntVar(&r.perCategory, "max-per-category", -1, "at most so many items of each category (-1: any number)")
	f.Float32Var(&r.diversity, "diversity", 1, "weigh score against being different: `lambda` from 1, score alone, to 0")
	f.StringVar(&r.file, "rules", "", "JSON `file` of rules, in the form that the gateway takes")
}

// rules reads the file, and adds what the flags say.
func (r *ruleFlags) rules() (edge.Rules, error) {
	var q edge.Rules
	if r.file != "" {
		b, err := os.ReadFile(r.file)
		if err != nil {
			return q, fmt.Errorf("--rules: %w", err)
		}
		d := json.NewDecoder(bytes.NewReader(b))
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return q, fmt.Errorf("--rules %s: %w", r.file, err)
		}
	}
	if len(r.require) > 0 {
		q.Require = append(q.Require, labels(r.require))
	}
	q.Forbid = append(q.Forbid, labels(r.forbid)...)
	if r.perCategory >= 0 {
		q.Caps = append(q.Caps, edge.Cap{Most: r.perCategory})
	}
	if r.diversity != 1 {
		q.Diversity = &edge.Diversity{Lambda: r.diversity}
	}
	return q, nil
}

// labels reads categories and attributes; a category with = in its name takes a file
// of rules.
func labels(flags []string) []edge.Label {
	var all []edge.Label
	for _, s := range flags {
		if name, value, ok := strings.Cut(s, "="); ok {
			all = append(all, edge.Label{Attribute: name, Value: value})
			continue
		}
		all = append(all, edge.Label{Value: s})
	}
	return all
}
