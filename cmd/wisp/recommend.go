package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/edge"
)

func newRecommend() *cobra.Command {
	var dataDir, user, history, text, similar string
	var heads headQuestion
	var asJSON bool
	var rules ruleFlags
	var q edge.Request
	c := &cobra.Command{
		Use:   "recommend FILE.wisp",
		Short: "Ask an artefact for recommendations",
		Long: `Runs one request in a sandbox: for a user of a prepared data set, or for a history
given as item ids, oldest first. With --explain each item comes with the past events
whose removal lowers its score most: each figure is that of a history without the event.

A user who is not in the data gets the list for a new user.

An artefact with a text encoder also reads what is known of the user: --description, or
what the data say of --user. With --text it finds the items whose texts are nearest in
meaning, whoever asks; with --similar those that are most like an item.

With --rate it says what the user would rate the items named, where the model was given
a rating head (wisp fit-ratings), and with --classify how likely a text is of each class
(wisp fit-classes), such as positive and negative.

Rules hold for each of these: they say what may appear, and in which order, and leave
the list short only where the catalogue has nothing more that they let in.`,
		Example: `  wisp recommend ml-100k.wisp --data prepared --user 42 --explain
  wisp recommend shop.wisp --history sku-17,sku-4 -k 5 --json
  wisp recommend shop.wisp
  wisp recommend shop.wisp --text "a kettle for the camp fire"
  wisp recommend shop.wisp --history sku-17 --description "cooks outdoors, has little room"
  wisp recommend ml-100k.wisp --data prepared --user 42 --rate 50,172
  wisp recommend films.wisp --classify "what a film"
  wisp recommend shop.wisp --similar sku-17 --forbid Toys --max-per-category 3 --diversity 0.7`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			if (user == "") != (dataDir == "") {
				return errors.New("--user and --data belong together")
			}
			if user != "" && history != "" {
				return errors.New("give --user or --history, not both")
			}
			if text != "" && (user != "" || history != "" || q.Description != "" || q.Explain) {
				return errors.New("--text finds items for anybody: give it without --user, --history, --description and --explain")
			}
			if similar != "" && (text != "" || user != "" || history != "" || q.Description != "" || q.Explain) {
				return errors.New("--similar is about an item, whoever asks: give it without --text, --user, --history, --description and --explain")
			}
			if q.Rules, err = rules.rules(); err != nil {
				return err
			}
			if err := heads.check(cmd); err != nil {
				return err
			}
			r, err := edge.Open(ctx, args[0], edge.Options{Sandboxes: 1, AllowUnsigned: true})
			if err != nil {
				return withRemedy(err)
			}
			defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
			if history != "" {
				for id := range strings.SplitSeq(history, ",") {
					q.History = append(q.History, edge.Event{Item: strings.TrimSpace(id)})
				}
			}
			if user != "" {
				if err := known(r, dataDir, user, &q); err != nil {
					return err
				}
			}
			if heads.asked() {
				return heads.ask(ctx, r, q, cmd.OutOrStdout(), asJSON)
			}
			response, err := ask(ctx, r, text, similar, q)
			if errors.Is(err, edge.ErrNoText) {
				return fmt.Errorf("%w; make one that reads texts with wisp compress --encoder", err)
			}
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(response)
			}
			switch {
			case response.ColdStart && q.Description != "":
				fmt.Fprintln(out, "of this user only the description is known:")
			case response.ColdStart:
				fmt.Fprintln(out, "nothing is known of this user: the list for a new one")
			case user != "":
				fmt.Fprintf(out, "user %s, after %d events:\n", user, len(q.History))
			}
			if len(response.Unknown) > 0 {
				fmt.Fprintf(out, "not in the catalogue: %s\n", strings.Join(response.Unknown, ", "))
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			for i, item := range response.Items {
				fmt.Fprintf(w, "%2d\t%s\t%s\t%.3f", i+1, item.Item, item.Title, item.Score)
				fmt.Fprintln(w)
				for _, a := range item.Attributes {
					name := a.Name
					if a.Own {
						name = "what only this item is"
					}
					fmt.Fprintf(w, "\t\t\t+%.3f  for %s\n", a.Gain, name)
				}
				for _, reason := range item.Reasons {
					fmt.Fprintf(w, "\t\t\t-%.3f  without %s\n", reason.Drop, label(reason.Item, reason.Title))
				}
			}
			return w.Flush()
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data", "", "prepared data with the user's history")
	f.StringVar(&user, "user", "", "id of a user in --data")
	f.StringVar(&history, "history", "", "item ids, oldest first, separated by commas")
	f.StringVar(&q.Description, "description", "", "what the user is like, in words (default: what --data says of --user)")
	f.StringVar(&text, "text", "", "find items by this text")
	f.StringVar(&similar, "similar", "", "find the items that are most like this one")
	heads.add(f)
	rules.add(f)
	f.IntVarP(&q.K, "number", "k", 10, "number of items")
	f.BoolVar(&q.Explain, "explain", false, "say which past events speak most for each item")
	f.IntVar(&q.Reasons, "reasons", 3, "number of events that --explain names for each item")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func label(id, title string) string {
	if title == "" {
		return id
	}
	return title
}

// ask searches for a text or what is similar to an item, or recommends where there is
// neither.
func ask(ctx context.Context, r *edge.Runtime, text, similar string, q edge.Request) (edge.Response, error) {
	switch {
	case text != "":
		return r.Search(ctx, edge.SearchRequest{Text: text, K: q.K, Rules: q.Rules})
	case similar != "":
		return r.Similar(ctx, edge.SimilarRequest{Item: similar, K: q.K, Rules: q.Rules})
	}
	return r.Recommend(ctx, q)
}

// known adds to q what a prepared data set says of a user, nothing of one that it
// does not have.
func known(r *edge.Runtime, dir, id string, q *edge.Request) error {
	ds, _, err := loadData(dir)
	if err != nil {
		return err
	}
	s, err := newSandbox(r, ds)
	if err != nil {
		return err
	}
	for u := range ds.Users {
		if ds.Users[u].ID == id {
			q.History = s.events(ds.Histories[u])
			q.Description = cmp.Or(q.Description, s.description(int32(u)))
			return nil
		}
	}
	return nil
}
