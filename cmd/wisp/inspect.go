package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
)

func newInspect() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect FILE.wisp",
		Short: "Show what an artefact holds",
		Long: `Reads an artefact, checks every digest, and prints its manifest and its sections.
Nothing is run.`,
		Example: `  wisp inspect shop.wisp
  wisp inspect shop.wisp --json | jq .model`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := artifact.Open(args[0], artifact.ReadOptions{AllowUnsigned: true})
			if err != nil {
				return withRemedy(err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				e := json.NewEncoder(out)
				e.SetIndent("", "  ")
				return e.Encode(a.Manifest)
			}
			m := a.Manifest
			fmt.Fprintf(out, "%s version %d", m.Name, m.Version)
			if m.Tenant != "" {
				fmt.Fprintf(out, " for %s", m.Tenant)
			}
			if m.Created != "" {
				fmt.Fprintf(out, ", made %s", m.Created)
			}
			fmt.Fprintf(out, "\ndigest %x, not signed\n", a.Digest)
			i := m.Model
			fmt.Fprintf(out, "%d items, width %d, %d layers of %d heads, feed-forward %d, window %d, ABI %d\n", i.Items, i.Dim, i.Layers, i.Heads, i.FFN, i.Window, m.ABI)
			fmt.Fprintf(out, "a request may have %d events and ask for %d items; a sandbox takes %d KiB\n", m.Limits.MaxHistory, m.Limits.MaxK, 64*m.Limits.MemoryPages)
			fmt.Fprint(out, "event types:")
			for _, t := range m.EventTypes {
				fmt.Fprintf(out, " %s", t.Name)
				if t.AtLeast != 0 {
					fmt.Fprintf(out, ">=%g", t.AtLeast)
				}
			}
			fmt.Fprintf(out, "\n%d golden requests\n", len(a.Goldens))
			for _, x := range m.Metrics {
				fmt.Fprintf(out, "%s %.4f (%d cases, %s)\n", x.Name, x.Value, x.N, x.Protocol)
			}
			for _, l := range m.Licences {
				fmt.Fprintf(out, "licence of %s: %s\n", l.What, l.Licence)
			}
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "section\tname\tcodec\tstored\traw\tSHA-256 of the stored bytes\t")
			for _, s := range a.Sections {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%x\t\n", s.Type, s.Name, s.Codec, s.Stored, s.Raw, s.Digest)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "write the manifest as JSON")
	return c
}
