package retrain_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/internal/retrain"
)

// ranks makes a result of n cases in which the target of case i has the given rank.
func ranks(n int, rank func(i int) int32) *eval.Result {
	r := &eval.Result{Items: 100, TopK: 10, Cases: n}
	for i := range n {
		r.Users, r.Targets = append(r.Users, int32(i)), append(r.Targets, 1)
		r.Rank, r.WorstRank = append(r.Rank, rank(i)), append(r.WorstRank, rank(i))
	}
	return r
}

func TestGate(t *testing.T) {
	const n = 400
	rng := rand.New(rand.NewPCG(1, 1))
	of := make([]int32, n)
	for i := range of {
		of[i] = int32(rng.IntN(20))
	}
	serving := func() *eval.Result { return ranks(n, func(i int) int32 { return of[i] }) }
	everybody := func(int) bool { return true }
	half := func(i int) bool { return i < n/2 }
	for name, test := range map[string]struct {
		candidate *eval.Result
		known     func(i int) bool
		gate      retrain.Gate
		published float64
		publish   bool
		says      string
	}{
		"the same":       {candidate: serving(), publish: true, says: "not below -0.0100"},
		"better":         {candidate: ranks(n, func(i int) int32 { return of[i] / 2 }), publish: true},
		"worse":          {candidate: ranks(n, func(i int) int32 { return of[i] + 2 }), says: "worse than what serves by more than the margin of 0.0100 on the newest slice"},
		"worse, allowed": {candidate: ranks(n, func(i int) int32 { return of[i] + 2 }), gate: retrain.Gate{Margin: 0.5}, publish: true},
		"a little worse on average, and uncertain": {
			candidate: ranks(n, func(i int) int32 { return int32((int(of[i])*7 + i) % 20) }), gate: retrain.Gate{Margin: 0.001}, says: "may be worse",
		},
		"too few":               {candidate: serving(), gate: retrain.Gate{MinCases: n + 1}, says: "400 cases in the newest slice are too few"},
		"too few known":         {candidate: serving(), known: func(i int) bool { return i < 40 }, says: "40 cases of users who were known before"},
		"newcomers outvote":     {candidate: ranks(n, func(i int) int32 { return of[i] * 2 * int32(1-i/(n/2)) }), known: half, says: "for users who were known before"},
		"what serves decayed":   {candidate: serving(), published: 1, says: "are the new events people's? If so, allow more with --max-decay"},
		"what serves may decay": {candidate: serving(), published: 1, gate: retrain.Gate{MaxDecay: -1}, publish: true},
		"everything alike": {candidate: func() *eval.Result {
			r := ranks(n, func(int) int32 { return 0 }) // no item scores strictly higher
			for i := range r.WorstRank {
				r.WorstRank[i] = 99
			}
			return r
		}(), says: "NDCG@10 0.0000 against"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.known == nil {
				test.known = everybody
			}
			known := make([]bool, n)
			for i := range known {
				known[i] = test.known(i)
			}
			v, err := test.gate.Judge(test.candidate, serving(), known, test.published)
			if err != nil {
				t.Fatal(err)
			}
			if v.Publish != test.publish || !strings.Contains(v.Reason, test.says) {
				t.Errorf("publish %t: %s", v.Publish, v.Reason)
			}
		})
	}
}
