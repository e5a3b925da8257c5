package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
)

func newPublish() *cobra.Command {
	var to, as string
	c := &cobra.Command{
		Use:   "publish FILE.wisp --to FOLDER",
		Short: "Spread an artefact over a folder for gateways to update from",
		Long: `Puts an artefact into a folder in parts: NAME.head, which is header, table and
signature, and under sections/ each section by its digest, once for all artefacts that
have it. Any web server can show such a folder, one without ranges too; gateways fetch
the head and the sections that they lack (wisp-edge https://models.example/shop.head). The
head is replaced last, so that whoever asks meanwhile gets the version before.`,
		Example: `  wisp publish shop.wisp --to /srv/models`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as == "" {
				as = strings.TrimSuffix(filepath.Base(args[0]), ".wisp")
			}
			s, err := artifact.OpenStore(to)
			if err != nil {
				return err
			}
			if err := s.Publish(cmd.Context(), args[0], as); err != nil {
				return withRemedy(err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s\n", filepath.Join(to, as+".head"))
			return nil
		},
	}
	c.Flags().StringVar(&to, "to", "", "the folder")
	c.Flags().StringVar(&as, "as", "", "name of the head (default: that of the file)")
	required(c, "to")
	return c
}
