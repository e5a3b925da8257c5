package main

import (
	"crypto/ed25519"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/wisp-project/wisp/artifact"
)

func newVerify() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "verify --key PUB FILE.wisp...",
		Short: "Check who signed artefacts",
		Long: `Checks that each artefact is whole and signed with one of the keys given, and fails
otherwise. Nothing is run; whether a machine answers as it should is checked when a
gateway opens the artefact.`,
		Example: `  wisp verify --key shop.key.pub shop.wisp
  wisp verify --key old.key.pub --key new.key.pub north.wisp south.wisp`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var keys []ed25519.PublicKey
			for _, path := range files {
				key, err := artifact.ReadPublicKey(path)
				if err != nil {
					return err
				}
				keys = append(keys, key)
			}
			for _, path := range args {
				a, err := artifact.Open(path, artifact.ReadOptions{Keys: keys})
				if err != nil {
					return withRemedy(err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s version %d, signed with key %v\n", path, a.Manifest.Name, a.Manifest.Version, a.Signature.Key)
			}
			return nil
		},
	}
	c.Flags().StringArrayVar(&files, "key", nil, "`file` of a public key that is trusted; may be repeated")
	required(c, "key")
	return c
}
