// Command gen writes the tokenizer's Unicode tables to the file it is given.
package main

import (
	"fmt"
	"os"

	"github.com/wisp-project/wisp/internal/tokenize/unidata"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(file string) error {
	tables, err := unidata.Build()
	if err != nil {
		return err
	}
	return os.WriteFile(file, tables.Append(nil), 0o644)
}
