package main

import "github.com/spf13/cobra"

func newResults() *cobra.Command { return &cobra.Command{Use: "results"} }
