package layout

import (
	"fmt"
	"slices"
	"strings"
)

//go:generate go run ./gen ../../wasm/web/src/layout.js

// jsPrefixes are those of the constants that a host needs.
var jsPrefixes = []string{
	"WISP_ABI", "IMAGE_BASE", "REQUEST_WORDS", "EVENT_WORDS", "ANSWER_WORDS", "HIT_WORDS", "KIND_", "FLAG_", "STATUS_", "RULE_", "MAX_RULES", "MAX_ITEM_LABELS",
	"BOOST_MAX", "TEXT_ITEM_", "TEXT_USER_", "H_TEXT_CLASSES", "H_RATINGS", "LEVELS", "QUERY_ONE", "NO_REASON", "OWN_PART", "MAX_REASONS",
	"H_MAGIC", "H_ABI", "H_ITEMS", "H_DIM", "H_ITEM_K", "H_TEXT_DIM", "H_TEXT_PAD", "H_TEXT_FLAGS", "H_LABELS", "H_LABEL_", "H_ATTRIBUTE_NAME_BYTES", "H_ATTRIBUTE_NAMES", "H_IMAGE_END",
	"H_OVERLAY", "H_UNAVAILABLE", "H_EXTRA_", "H_STATE", "H_REQUEST", "H_ANSWER", "H_END", "H_MAX_",
}

// JSModule returns the browser host's view of this package, as a JavaScript module.
func JSModule() string {
	var b strings.Builder
	b.WriteString("// Generated from internal/layout by `go generate ./internal/layout`; do not edit.\n")
	fmt.Fprintf(&b, "export const MAGIC = %d\n", uint32(Magic))
	fmt.Fprintf(&b, "export const SEGMENTS = ['%s']\n", strings.Join(Segments, "', '"))
	fmt.Fprintf(&b, "export const TEXT_SEGMENTS = ['%s']\n", strings.Join(TextSegments, "', '"))
	for line := range strings.Lines(CHeader()) {
		var name string
		var value int
		if n, _ := fmt.Sscanf(line, "#define %s %d", &name, &value); n != 2 {
			continue
		}
		if slices.ContainsFunc(jsPrefixes, func(p string) bool {
			return name == p || strings.HasSuffix(p, "_") && strings.HasPrefix(name, p)
		}) {
			fmt.Fprintf(&b, "export const %s = %d\n", name, value)
		}
	}
	return b.String()
}
