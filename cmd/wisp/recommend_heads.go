package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/wisp-project/wisp/edge"
)

// headQuestion is what the heads of an artefact are asked instead of a recommendation.
type headQuestion struct {
	rate, classify string
}

func (h *headQuestion) add(f *pflag.FlagSet) {
	f.StringVar(&h.rate, "rate", "", "say what the user would rate these items, ids separated by commas")
	f.StringVar(&h.classify, "classify", "", "say how likely this text is of each class")
}

func (h *headQuestion) asked() bool { return h.rate != "" || h.classify != "" }

// check reports flags that mean nothing for such a question.
func (h *headQuestion) check(cmd *cobra.Command) error {
	if !h.asked() {
		return nil
	}
	allowed := []string{"rate", "data", "user", "history", "description", "json", configFlag}
	if h.classify != "" {
		allowed = []string{"classify", "json", configFlag}
	}
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		for _, name := range allowed {
			if f.Name == name {
				return
			}
		}
		err = fmt.Errorf("--%s asks something else: give it without --%s", allowed[0], f.Name)
	})
	return err
}

// ask asks, for the user of q, and writes the answer.
func (h *headQuestion) ask(ctx context.Context, r *edge.Runtime, q edge.Request, out io.Writer, asJSON bool) error {
	var answer any
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if h.classify != "" {
		c, err := r.Classify(ctx, edge.ClassifyRequest{Text: h.classify})
		if err != nil {
			return err
		}
		answer = c
		for _, class := range c.Classes {
			fmt.Fprintf(w, "%s\t%.4f\n", class.Name, class.Probability)
		}
	} else {
		request := edge.RateRequest{History: q.History, Description: q.Description}
		for id := range strings.SplitSeq(h.rate, ",") {
			request.Items = append(request.Items, strings.TrimSpace(id))
		}
		ratings, err := r.Rate(ctx, request)
		if err != nil {
			return err
		}
		answer = ratings
		for _, item := range ratings.Items {
			fmt.Fprintf(w, "%s\t%s\t%.2f\n", item.Item, item.Title, item.Rating)
		}
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	}
	return w.Flush()
}
