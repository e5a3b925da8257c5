package layout

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Rule changes which items a ranking may hold, or in which order. In a request
// it is its Op, the number of its arguments, and these.
type Rule struct {
	Op   uint32
	Args []uint32
}

// Rules. Sets of items or labels rise, without repeats.
const (
	// RuleOnly, items: nothing else may appear.
	RuleOnly = 1
	// RuleAnyOf, labels: an item must have one of them.
	RuleAnyOf = 2
	// RuleNoneOf, labels: an item must have none of them.
	RuleNoneOf = 3
	// RuleBoostItems, factor, addend, items: changes their scores. A score that is
	// not negative is multiplied by the factor, a negative one divided, so that a
	// factor above 1 always raises; then the addend is added. Both are float32.
	RuleBoostItems = 4
	// RuleBoostLabels, factor, addend, labels: the same for items that have one of
	// them; one with several is boosted once.
	RuleBoostLabels = 5
	// RuleCap, n, from, to: each label in [from, to) stands on at most n items of
	// the answer.
	RuleCap = 6
	// RulePin, place, item: the item stands at this place, counted from 0, if no
	// other rule leaves it out; at the end where the answer is shorter.
	RulePin = 7
	// RuleDiversity, lambda, pool: maximal marginal relevance over the pool best
	// items; see internal/q8. Lambda is float32.
	RuleDiversity = 8
)

const (
	// MaxRules bounds the rules of a request.
	MaxRules = 256
	// BoostMax bounds a boost's addend and factor, and one over its factor.
	BoostMax = 1 << 20
	// ScoreMax bounds a boosted score: what goes beyond is cut off.
	ScoreMax = 1 << 100
	// maxRuleWords is the room for rules in a request, that for one set of items
	// left out.
	maxRuleWords = 1 << 13
)

// BoostItems makes a RuleBoostItems. Rules without a function are a set and no more.
func BoostItems(factor, addend float32, items ...uint32) Rule {
	return Rule{RuleBoostItems, append([]uint32{math.Float32bits(factor), math.Float32bits(addend)}, items...)}
}

// BoostLabels makes a RuleBoostLabels.
func BoostLabels(factor, addend float32, labels ...uint32) Rule {
	return Rule{RuleBoostLabels, append([]uint32{math.Float32bits(factor), math.Float32bits(addend)}, labels...)}
}

// Cap makes a RuleCap for the labels from … to-1.
func Cap(n, from, to uint32) Rule { return Rule{RuleCap, []uint32{n, from, to}} }

// Pin makes a RulePin.
func Pin(place, item uint32) Rule { return Rule{RulePin, []uint32{place, item}} }

// Diversity makes a RuleDiversity.
func Diversity(lambda float32, pool uint32) Rule {
	return Rule{RuleDiversity, []uint32{math.Float32bits(lambda), pool}}
}

// Float returns argument i as float32.
func (r Rule) Float(i int) float32 { return math.Float32frombits(r.Args[i]) }

// Set returns the items or labels of a rule that was checked.
func (r Rule) Set() []uint32 {
	switch r.Op {
	case RuleBoostItems, RuleBoostLabels:
		return r.Args[2:]
	}
	return r.Args
}

// ruleWords is the number of words of rules in a request.
func ruleWords(rules []Rule) int {
	n := 0
	for _, r := range rules {
		n += 2 + len(r.Args)
	}
	return n
}

func appendRules(dst []byte, rules []Rule) []byte {
	word := binary.LittleEndian.AppendUint32
	for _, r := range rules {
		dst = word(word(dst, r.Op), uint32(len(r.Args)))
		for _, a := range r.Args {
			dst = word(dst, a)
		}
	}
	return dst
}

// parseRules is the reverse of appendRules.
func parseRules(b []byte) ([]Rule, error) {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[4*i:]) }
	var rules []Rule
	for n := len(b) / 4; n > 0; n = len(b) / 4 {
		if n < 2 || uint64(word(1)) > uint64(n-2) {
			return nil, fmt.Errorf("%w: rule %d is cut off", ErrRequest, len(rules))
		}
		r := Rule{Op: word(0)}
		for i := range int(word(1)) {
			r.Args = append(r.Args, word(2+i))
		}
		rules = append(rules, r)
		b = b[4*(2+len(r.Args)):]
	}
	return rules, nil
}

// checkRules reports the first rule that does not fit.
func checkRules(rules []Rule, k uint32, m Map) error {
	if len(rules) > MaxRules {
		return fmt.Errorf("there are %d rules, at most %d are possible", len(rules), MaxRules)
	}
	for i, r := range rules {
		if err := r.check(k, m); err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		for j, o := range rules[:i] {
			switch {
			case r.Op != o.Op:
			case r.Op == RuleDiversity:
				return fmt.Errorf("rule %d: rule %d asks for diversity already", i, j)
			case r.Op == RulePin && (r.Args[0] == o.Args[0] || r.Args[1] == o.Args[1]):
				return fmt.Errorf("rule %d: its place or its item is pinned by rule %d already", i, j)
			}
		}
	}
	return nil
}

func (r Rule) check(k uint32, m Map) error {
	args := map[uint32]int{RuleCap: 3, RulePin: 2, RuleDiversity: 2}[r.Op]
	if args > 0 && len(r.Args) != args || len(r.Args) < 2 && (r.Op == RuleBoostItems || r.Op == RuleBoostLabels) {
		return fmt.Errorf("it has %d arguments", len(r.Args))
	}
	switch r.Op {
	case RuleOnly:
		return checkSet("item", r.Args, m.Items)
	case RuleAnyOf, RuleNoneOf:
		return checkSet("label", r.Args, m.MaxLabels)
	case RuleBoostItems, RuleBoostLabels:
		factor, addend := r.Float(0), r.Float(1)
		if !(factor >= 1.0/BoostMax && factor <= BoostMax) || !(addend >= -BoostMax && addend <= BoostMax) {
			return fmt.Errorf("a boost by the factor %v and %v, must lie between 2^-20 and 2^20, and -2^20 and 2^20", factor, addend)
		}
		if r.Op == RuleBoostItems {
			return checkSet("item", r.Set(), m.Items)
		}
		return checkSet("label", r.Set(), m.MaxLabels)
	case RuleCap:
		if r.Args[1] >= r.Args[2] || int64(r.Args[2]) > int64(m.MaxLabels) {
			return fmt.Errorf("it is for the labels from %d to before %d, there are %d", r.Args[1], r.Args[2], m.MaxLabels)
		}
	case RulePin:
		if r.Args[0] >= k || int64(r.Args[1]) >= int64(m.Items) {
			return fmt.Errorf("it pins item %d of %d at place %d of %d", r.Args[1], m.Items, r.Args[0], k)
		}
	case RuleDiversity:
		lambda, pool := r.Float(0), r.Args[1]
		if !(lambda >= 0 && lambda <= 1) || pool < k || int64(pool) > int64(m.MaxK) {
			return fmt.Errorf("diversity with lambda %v over %d items, must lie between 0 and 1, and %d and %d", lambda, pool, k, m.MaxK)
		}
	default:
		return fmt.Errorf("there is no rule %d", r.Op)
	}
	return nil
}

// checkSet reports a set that does not rise, or goes beyond n.
func checkSet(what string, set []uint32, n int) error {
	if len(set) > 0 && int64(set[len(set)-1]) >= int64(n) {
		return fmt.Errorf("it names %s %d, there are %d", what, set[len(set)-1], n)
	}
	for i := 1; i < len(set); i++ {
		if set[i] <= set[i-1] {
			return fmt.Errorf("its %ss do not rise: %d comes after %d", what, set[i], set[i-1])
		}
	}
	return nil
}
