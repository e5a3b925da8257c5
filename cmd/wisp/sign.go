package main

import (
	"crypto/ed25519"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
)

func newSign() *cobra.Command {
	return &cobra.Command{
		Use:   "sign KEY FILE.wisp...",
		Short: "Sign artefacts",
		Long: `Signs artefacts with the private key of a file that wisp keygen made, in the place
of any signature that they had. All of an artefact is checked first; nothing but its
signature changes, and an interruption leaves it as it was.`,
		Example: `  wisp sign shop.key shop.wisp
  wisp sign shop.key north.wisp south.wisp`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := artifact.ReadPrivateKey(args[0])
			if err != nil {
				return err
			}
			id := artifact.NewKeyID(key.Public().(ed25519.PublicKey))
			for _, path := range args[1:] {
				if err := artifact.SignFile(path, key); err != nil {
					return withRemedy(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: signed with key %v\n", path, id)
			}
			return nil
		},
	}
}
