package eval_test

import (
	"errors"
	"math"
	"testing"

	"github.com/wisp-project/wisp/internal/eval"
)

// rankedResult is a result with these ranks, ties counted against and for the scorer, and
// lists.
func rankedResult(name string, rank, worst []int32, lists ...[]int32) *eval.Result {
	r := &eval.Result{Scorer: name, Items: 20, TopK: 10, Rank: rank, WorstRank: worst, Lists: lists}
	for i := range rank {
		r.Users, r.Targets = append(r.Users, int32(i)), append(r.Targets, 3)
	}
	return r
}

func TestRetention(t *testing.T) {
	teacher := rankedResult("teacher", []int32{0, 0, 2, 15}, []int32{0, 9, 9, 19})
	student := rankedResult("student", []int32{0, 2, 0, 0}, []int32{0, 2, 15, 15})
	// NDCG: the teacher has 1 + 1 + 0.5 by Rank, the student 1 + 0.5 by WorstRank.
	got, err := eval.Retention(student, teacher, eval.NDCG, eval.BootstrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got.Value-1.5/2.5) > 1e-12 || got.Low > got.Value || got.High < got.Value || got.Low == got.High {
		t.Errorf("%+v, want 0.6", got)
	}
	// The same ranks keep all, in every resample: the interval is paired.
	same := rankedResult("same", teacher.Rank, teacher.Rank)
	if got, err := eval.Retention(same, teacher, eval.NDCG, eval.BootstrapOptions{}); err != nil || got != (eval.Interval{Value: 1, Low: 1, High: 1}) {
		t.Errorf("of the same ranks %+v, %v", got, err)
	}
	none := rankedResult("none", []int32{12, 12, 12, 12}, []int32{12, 12, 12, 12})
	if _, err := eval.Retention(student, none, eval.NDCG, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := eval.Retention(student, rankedResult("other", []int32{1}, []int32{1}), eval.NDCG, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrNotPaired) {
		t.Errorf("of other cases: %v", err)
	}
}

func TestOverlap(t *testing.T) {
	a := rankedResult("a", []int32{0, 0}, []int32{0, 0}, []int32{1, 2, 3, 4}, []int32{5, 6})
	b := rankedResult("b", []int32{0, 0}, []int32{0, 0}, []int32{4, 3, 9, 8}, []int32{6, 5})
	if got, err := eval.Overlap(a, b); err != nil || got != 0.75 {
		t.Errorf("%v, %v; want 0.75", got, err)
	}
	if _, err := eval.Overlap(a, rankedResult("c", []int32{1}, []int32{1}, []int32{1})); !errors.Is(err, eval.ErrNotPaired) {
		t.Errorf("of other cases: %v", err)
	}
}

// Over seeds, what is kept is kept of all of them together.
func TestMeanRetention(t *testing.T) {
	teachers := []*eval.Result{
		rankedResult("teacher", []int32{0, 0, 2, 15}, []int32{0, 9, 9, 19}),
		rankedResult("teacher", []int32{0, 0, 0, 0}, []int32{0, 0, 0, 0}),
	}
	students := []*eval.Result{
		rankedResult("student", []int32{0, 2, 0, 0}, []int32{0, 2, 15, 15}),
		rankedResult("student", []int32{0, 0, 2, 2}, []int32{0, 0, 2, 15}),
	}
	got, err := eval.MeanRetention(students, teachers, eval.NDCG, eval.BootstrapOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := (1.5 + 2.5) / (2.5 + 4); math.Abs(got.Value-want) > 1e-12 || got.Low > got.Value || got.High < got.Value {
		t.Errorf("%+v, want %v", got, want)
	}
	if _, err := eval.MeanRetention(students, teachers[:1], eval.NDCG, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrInput) {
		t.Errorf("a student without a teacher: %v", err)
	}
	if _, err := eval.MeanRetention(students, []*eval.Result{teachers[0], rankedResult("teacher", []int32{1}, []int32{1})}, eval.NDCG, eval.BootstrapOptions{}); !errors.Is(err, eval.ErrNotPaired) {
		t.Errorf("other cases: %v", err)
	}
}
