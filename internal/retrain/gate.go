package retrain

import (
	"fmt"
	"math"

	"github.com/wisp-project/wisp/internal/eval"
)

// Gate says what a candidate must be to take the place of what serves. A zero field
// means its default.
type Gate struct {
	// Margin is how much of NDCG@10, in its own unit, the candidate may be worse by:
	// the lower end of the 95 % interval of the paired difference must not lie below
	// -Margin (0.01).
	Margin   float64 `json:"margin"`
	MinCases int     `json:"min_cases"` // fewer cannot tell (50)
	// MaxDecay is the share of its NDCG@10 that what serves may have lost since it was
	// published: beyond it, something is wrong with the events, and a comparison on
	// them says nothing (0.6). Negative switches the check off.
	MaxDecay float64 `json:"max_decay"`
}

// WithDefaults returns the gate with defaults filled in.
func (g Gate) WithDefaults() Gate {
	if g.Margin == 0 {
		g.Margin = 0.01
	}
	if g.MinCases == 0 {
		g.MinCases = 50
	}
	switch {
	case g.MaxDecay == 0:
		g.MaxDecay = 0.6
	case g.MaxDecay < 0:
		g.MaxDecay = -1
	}
	return g
}

// Validate reports the first field that has no meaning.
func (g Gate) Validate() error {
	if !(g.Margin >= 0 && g.Margin <= 1) || g.MinCases < 0 || !(g.MaxDecay <= 1) {
		return fmt.Errorf("%w: margin %v, cases %d, decay %v; want a margin of 0 to 1, no negative number of cases and a decay of at most 1", ErrOptions, g.Margin, g.MinCases, g.MaxDecay)
	}
	return nil
}

// Comparison is what was measured of a candidate and of what serves, on the same cases.
type Comparison struct {
	Cases      int             `json:"cases"`
	Candidate  float64         `json:"candidate"` // NDCG@10, ties counted against it
	Serving    float64         `json:"serving"`   // NDCG@10, ties counted for it
	Difference eval.Difference `json:"difference"`
}

// Verdict is what a gate decided, and why.
type Verdict struct {
	Publish bool       `json:"publish"`
	Reason  string     `json:"reason"` // a sentence without a full stop
	All     Comparison `json:"all"`
	// Known is the same among the cases of users who were known before the new events:
	// accounts that were made to push something have no vote there.
	Known Comparison `json:"known"`
}

// Judge compares a candidate with what serves on the cases of both results. known says
// of each case that its user was known before; published is the NDCG@10 that what
// serves had when it was published, 0 where that is not known. The error is that of
// eval.PairedBootstrap.
func (g Gate) Judge(candidate, serving *eval.Result, known []bool, published float64) (Verdict, error) {
	g = g.WithDefaults()
	v := Verdict{}
	if len(candidate.Rank) < max(g.MinCases, 1) {
		v.All.Cases = len(candidate.Rank)
		v.Reason = fmt.Sprintf("%d cases in the newest slice are too few to tell, at least %d are wanted", v.All.Cases, g.MinCases)
		return v, nil
	}
	var err error
	if v.All, err = compare(candidate, serving); err != nil {
		return v, err
	}
	c, s := only(candidate, known), only(serving, known)
	if len(c.Rank) > 0 {
		if v.Known, err = compare(c, s); err != nil {
			return v, err
		}
	}
	switch {
	case g.MaxDecay >= 0 && v.All.Serving < (1-g.MaxDecay)*published:
		v.Reason = fmt.Sprintf("what serves had an NDCG@10 of %.4f when it was published and has %.4f on the newest slice, less than %s of it: are the new events people's? If so, allow more with --max-decay, else leave them out with --discard",
			published, v.All.Serving, percent(1-g.MaxDecay))
	case v.All.Difference.Low < -g.Margin:
		v.Reason = g.worse("on the newest slice", v.All)
	case v.Known.Cases < g.MinCases:
		v.Reason = fmt.Sprintf("%d cases of users who were known before are too few to tell, at least %d are wanted", v.Known.Cases, g.MinCases)
	case v.Known.Difference.Low < -g.Margin:
		v.Reason = g.worse("for users who were known before", v.Known)
	default:
		v.Publish = true
		v.Reason = fmt.Sprintf("NDCG@10 %.4f on %d cases, %+.4f (%.4f to %.4f) against what serves, not below -%.4f",
			v.All.Candidate, v.All.Cases, v.All.Difference.Value, v.All.Difference.Low, v.All.Difference.High, g.Margin)
	}
	return v, nil
}

func (g Gate) worse(where string, c Comparison) string {
	return fmt.Sprintf("it may be worse than what serves by more than the margin of %.4f %s: NDCG@10 %.4f against %.4f on %d cases, a difference of %+.4f (%.4f to %.4f)",
		g.Margin, where, c.Candidate, c.Serving, c.Cases, c.Difference.Value, c.Difference.Low, c.Difference.High)
}

// compare takes ties from the candidate and gives them to what serves: a model that
// gives everything the same score would else be the best of all.
func compare(candidate, serving *eval.Result) (Comparison, error) {
	c := *candidate
	c.Rank = candidate.WorstRank
	d, err := eval.PairedBootstrap(&c, serving, eval.NDCG, eval.BootstrapOptions{})
	if err == nil && (math.IsNaN(d.Low) || math.IsNaN(d.Value)) {
		err = fmt.Errorf("%w: the difference of NDCG@10 is no number", eval.ErrNaN)
	}
	return Comparison{
		Cases: len(c.Rank), Difference: d,
		Candidate: eval.Metric(eval.NDCG).Mean(c.Rank, c.TopK), Serving: eval.Metric(eval.NDCG).Mean(serving.Rank, serving.TopK),
	}, err
}

// only returns the cases of r that are wanted.
func only(r *eval.Result, wanted []bool) *eval.Result {
	s := &eval.Result{Scorer: r.Scorer, Items: r.Items, TopK: r.TopK}
	for i, yes := range wanted {
		if yes {
			s.Users, s.Targets = append(s.Users, r.Users[i]), append(s.Targets, r.Targets[i])
			s.Rank, s.WorstRank = append(s.Rank, r.Rank[i]), append(s.WorstRank, r.WorstRank[i])
		}
	}
	s.Cases = len(s.Rank)
	return s
}
