package layout

import (
	"fmt"
	"strings"
)

//go:generate go run ./gen ../../wasm/guest/layout.h

// CHeader returns the guest's view of this package, as C.
func CHeader() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("// Generated from internal/layout by `go generate ./internal/layout`; do not edit.")
	line("#pragma once")
	section := func(title string) { line("\n// %s", title) }
	define := func(name string, value int) { line("#define %s %d", name, value) }
	section("The memory map and the version of all this.")
	define("WISP_ABI", ABI)
	define("IMAGE_BASE", ImageBase)
	define("STACK_SIZE", StackSize)
	section("Words of the image's header.")
	for i, name := range headerNames {
		define("H_"+name, i)
	}
	section("Scalars of a block.")
	for i, name := range scalarNames {
		define("S_"+name, i)
	}
	section("Scalars of the ratings.")
	for i, name := range rateNames {
		define("RATE_"+name, i)
	}
	section("Messages, in words, and the other numbers of the arithmetic.")
	for _, d := range []struct {
		name  string
		value int
	}{
		{"REQUEST_WORDS", requestWords},
		{"EVENT_WORDS", eventWords},
		{"ANSWER_WORDS", answerWords},
		{"HIT_WORDS", hitWords},
		{"STATE_WORDS", stateWords},
		{"KIND_RECOMMEND", KindRecommend},
		{"KIND_SCORE", KindScore},
		{"KIND_SEARCH", KindSearch},
		{"KIND_EMBED", KindEmbed},
		{"KIND_SIMILAR", KindSimilar},
		{"KIND_RATE", KindRate},
		{"KIND_CLASSIFY", KindClassify},
		{"MAX_REASONS", MaxReasons},
		{"NO_REASON", NoReason},
		{"OWN_PART", OwnPart},
		{"EXPLAIN_SPARE_ROWS", explainSpare},
		{"EXPLAIN_EVENT_ROWS", explainEvent},
		{"FLAG_EXCLUDE_HISTORY", FlagExcludeHistory},
		{"FLAG_ITEM_ROW", FlagItemRow},
		{"FLAG_STATE", FlagState},
		{"FLAG_ATTRIBUTES", FlagAttributes},
		{"STATE_TAG", stateTag},
		{"STATE_HEAD_WORDS", stateHeadWords},
		{"STATUS_OK", StatusOK},
		{"STATUS_MORE", StatusMore},
		{"STATUS_REQUEST", StatusRequest},
		{"STATUS_ITEM", StatusItem},
		{"STATUS_TYPE", StatusType},
		{"STATUS_NO_TEXT", StatusNoText},
		{"STATUS_LONG", StatusLong},
		{"STATUS_STATE", StatusState},
		{"STATUS_RULE", StatusRule},
		{"RULE_ONLY", RuleOnly},
		{"RULE_ANY_OF", RuleAnyOf},
		{"RULE_NONE_OF", RuleNoneOf},
		{"RULE_BOOST_ITEMS", RuleBoostItems},
		{"RULE_BOOST_LABELS", RuleBoostLabels},
		{"RULE_CAP", RuleCap},
		{"RULE_PIN", RulePin},
		{"RULE_DIVERSITY", RuleDiversity},
		{"RULE_STATE_WORDS", ruleStateWords},
		{"MAX_RULES", MaxRules},
		{"MAX_ITEM_LABELS", MaxItemLabels},
		{"BOOST_MAX", BoostMax},
		{"STATUS_NO_ATTRIBUTES", StatusNoAttributes},
		{"STATUS_NO_HEAD", StatusNoHead},
		{"NO_LEVEL", NoLevel},
		{"TEXT_CLS", textCLS},
		{"TEXT_NORMALISE", textNormalise},
		{"TEXT_ITEM_MAP", textItemMap},
		{"TEXT_USER_MAP", textUserMap},
		{"TEXT_ITEM_TEXTS", textItemTexts},
		{"TOKENIZER_STATE_BYTES", tokenizerState},
		{"TOKEN_LEVELS", TokenMax},
		{"QUERY_ONE", QueryOne},
		{"ITEM_SCALE_MAX", ItemScaleMax},
		{"BOUND_LEAF", BoundLeaf},
		{"LEVELS", WeightMax},
		{"USER_LEVELS", UserMax},
		{"PROB_ONE", ProbOne},
	} {
		define(d.name, d.value)
	}
	return b.String()
}
