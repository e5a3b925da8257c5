package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
)

func newKeygen() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make a key to sign artefacts with",
		Long: `Makes an ed25519 key. The private half, readable by you alone, signs; keep it
secret, and where it is not lost. The public half, in the file that ends in .pub, goes
to whoever is to trust what you sign. Both are PEM files (PKCS #8, SubjectPublicKeyInfo)
as openssl writes and reads them.

No file is ever overwritten. To change to a new key, have gateways trust both until
no artefact of the old one is left.`,
		Example: `  wisp keygen --out shop.key
  wisp sign shop.key shop.wisp
  wisp verify --key shop.key.pub shop.wisp`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(out); err != nil {
				return err
			}
			id, err := artifact.CreateKey(out)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w; name another file, or remove that one if no artefact needs it", err)
			}
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: private, keep it secret\n%s.pub: public, for those who are to trust it\nkey %v\n", out, out, id)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "the file to write the private key to")
	required(c, "out")
	return c
}
