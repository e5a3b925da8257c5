package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
	"github.com/wisp-project/wisp/wasm"
)

func newInspect() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "inspect FILE.wisp",
		Short: "Show what an artefact holds",
		Long: `Reads an artefact, checks every digest, and prints its manifest, who says to
have signed it, and its sections. Nothing is run. wisp verify checks a signature.`,
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
			fmt.Fprintf(out, "\ndigest %x\n%s\n", a.Digest, signer(a.Signature))
			i := m.Model
			fmt.Fprintf(out, "%d items, width %d, %d layers of %d heads, feed-forward %d, window %d, ABI %d\n", i.Items, i.Dim, i.Layers, i.Heads, i.FFN, i.Window, m.ABI)
			if t := i.Text; t != (artifact.TextInfo{}) {
				fmt.Fprintf(out, "text encoder: %d tokens, width %d, %d layers of %d heads, feed-forward %d, texts of up to %d tokens%s\n",
					t.Vocabulary, t.Dim, t.Layers, t.Heads, t.FFN, t.Tokens, uses(t))
			}
			if i.Ratings {
				fmt.Fprintln(out, "it predicts ratings")
			}
			if len(m.Classes) > 0 {
				fmt.Fprintf(out, "it sorts texts into %s\n", strings.Join(m.Classes, ", "))
			}
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
			if p := m.Provenance; p != nil {
				fmt.Fprintf(out, "made by wisp %s, built with %s", p.Wisp, p.Go)
				if p.BLAS != "" {
					fmt.Fprintf(out, ", trained with %s", p.BLAS)
				}
				fmt.Fprintln(out)
				for _, c := range p.Commands {
					fmt.Fprintf(out, "  %s\n", c)
				}
				for _, s := range p.Sources {
					fmt.Fprintf(out, "  from %s, SHA-256 %s\n", s.Name, s.SHA256)
				}
			}
			fmt.Fprintf(out, "kernel SHA-256 %x, %s\n", sha256.Sum256(a.Kernel), kernelOrigin(a.Kernel))
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

// signer says who signed an artefact, by its own account: without a public key it
// cannot be checked.
func signer(s artifact.Signature) string {
	if s.Key == (artifact.KeyID{}) {
		return "not signed"
	}
	return fmt.Sprintf("signed with key %v, not checked: that takes wisp verify --key PUB", s.Key)
}

// kernelOrigin says whether gateways of this version trust a kernel by itself.
func kernelOrigin(kernel []byte) string {
	if bytes.Equal(kernel, wasm.Kernel) {
		return "that of this version"
	}
	return "not that of this version"
}

// uses says what an artefact does with texts.
func uses(t artifact.TextInfo) string {
	var all []string
	for _, u := range []struct {
		has  bool
		what string
	}{{t.ItemTexts, "finds items"}, {t.ItemMap, "places new items"}, {t.UserMap, "reads descriptions of users"}} {
		if u.has {
			all = append(all, u.what)
		}
	}
	if all == nil {
		return ""
	}
	return "; it " + strings.Join(all, ", ")
}
