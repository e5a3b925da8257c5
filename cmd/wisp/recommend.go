package main

import (
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
	var dataDir, user, history string
	var asJSON bool
	var q edge.Request
	c := &cobra.Command{
		Use:   "recommend FILE.wisp",
		Short: "Ask an artefact for recommendations",
		Long: `Runs one request in a sandbox: for a user of a prepared data set, or for a history
given as item ids, oldest first. With --explain each item comes with the past event
whose removal lowers its score most, found by scoring again without it.

A user who is not in the data gets the list for a new user.`,
		Example: `  wisp recommend ml-100k.wisp --data prepared --user 42 --explain
  wisp recommend shop.wisp --history sku-17,sku-4 -k 5 --json
  wisp recommend shop.wisp`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			ctx := cmd.Context()
			if (user == "") != (dataDir == "") {
				return errors.New("--user and --data belong together")
			}
			if user != "" && history != "" {
				return errors.New("give --user or --history, not both")
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
				if q.History, err = userEvents(r, dataDir, user); err != nil {
					return err
				}
			}
			response, err := r.Recommend(ctx, q)
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
				if item.Reason != nil {
					fmt.Fprintf(w, "\tbecause of %s (-%.3f without it)", label(item.Reason.Item, item.Reason.Title), item.Reason.Drop)
				}
				fmt.Fprintln(w)
			}
			return w.Flush()
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data", "", "prepared data with the user's history")
	f.StringVar(&user, "user", "", "id of a user in --data")
	f.StringVar(&history, "history", "", "item ids, oldest first, separated by commas")
	f.IntVarP(&q.K, "number", "k", 10, "number of items")
	f.BoolVar(&q.Explain, "explain", false, "say which past event speaks most for each item")
	f.BoolVar(&asJSON, "json", false, "write JSON")
	return c
}

func label(id, title string) string {
	if title == "" {
		return id
	}
	return title
}

// userEvents returns the history of a user of a prepared data set, none for a
// user it does not have.
func userEvents(r *edge.Runtime, dir, id string) ([]edge.Event, error) {
	ds, _, err := loadData(dir)
	if err != nil {
		return nil, err
	}
	s, err := newSandbox(r, ds)
	if err != nil {
		return nil, err
	}
	for u := range ds.Users {
		if ds.Users[u].ID == id {
			return s.events(ds.Histories[u]), nil
		}
	}
	return nil, nil
}
