// Command gen writes the guest's C header, or the browser package's module of the
// same constants, to the file it is given.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/wisp-project/wisp/internal/layout"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FILE")
		os.Exit(2)
	}
	content := layout.CHeader()
	if strings.HasSuffix(os.Args[1], ".js") {
		content = layout.JSModule()
	}
	if err := os.WriteFile(os.Args[1], []byte(content), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
