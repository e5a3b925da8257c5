package quantize_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
	"github.com/wisp-project/wisp/quantize"
)

// follower expects what came next after the last item in the histories that it was
// counted from.
type follower struct {
	items int
	after map[[2]int32]float32
}

func newFollower(histories [][]data.Interaction, items int) *follower {
	f := &follower{items, map[[2]int32]float32{}}
	for _, h := range histories {
		for i := range len(h) - 1 {
			f.after[[2]int32{h[i].Item, h[i+1].Item}]++
		}
	}
	return f
}

func (f *follower) Name() string { return "follower" }

func (f *follower) Scores(_ context.Context, dst []float32, _ int32, h []data.Interaction) error {
	clear(dst)
	for i := range dst {
		dst[i] = 3 * f.after[[2]int32{h[len(h)-1].Item, int32(i)}]
	}
	return nil
}

// followed is a teacher that follows, and tells who of the users it was counted from.
func followed(items int) quantize.Teacher {
	return quantize.Teacher{Counted: true, Temperature: 1, Fit: func(histories [][]data.Interaction) (eval.Sequencer, error) {
		return eval.NewEnsemble("teacher", []eval.Scorer{newFollower(histories, items)}, []float64{1})
	}}
}

// walks are histories of users who each have items of their own: user u those from
// 5u on, in order.
func walks(users int) [][]data.Interaction {
	histories := make([][]data.Interaction, users)
	for u := range histories {
		for i := range 5 {
			histories[u] = append(histories[u], data.Interaction{Item: int32(5*u + i), Type: 3, Time: int64(60 * i)})
		}
	}
	return histories
}

// What a user did next is known to the teacher only from that user, so before the last
// event it must not show.
func TestLessonsLeaveOut(t *testing.T) {
	const users = 12
	histories := walks(users)
	histories[7] = nil // a user without events
	l, err := quantize.Lessons(t.Context(), followed(5*users), histories, 5*users, quantize.LessonOptions{Augment: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Lessons) != users-1 || l.Targets.Len() != 5*(users-1) {
		t.Fatalf("%d lessons with %d distributions", len(l.Lessons), l.Targets.Len())
	}
	row := 0
	for _, lesson := range l.Lessons {
		for i := range lesson.Events {
			want := int32(-1)
			if i < 4 {
				want = lesson.Events[i+1].Item
			}
			if lesson.Next[i] != want {
				t.Errorf("user %d, event %d: next %d, want %d", lesson.User, i, lesson.Next[i], want)
			}
			items, probs := l.Targets.Kept(row)
			for j, item := range items {
				if want >= 0 && item == want && probs[j] > 1.5/float32(5*users-i-1) {
					t.Errorf("user %d, event %d: the teacher knows what came next, with %v", lesson.User, i, probs[j])
				}
				if slices.ContainsFunc(lesson.Events[:i+1], func(e data.Interaction) bool { return e.Item == item }) && probs[j] > 0 {
					t.Errorf("user %d, event %d: the teacher expects an item again", lesson.User, i)
				}
			}
			row++
		}
	}
}

// After the last event the teacher answers as it is: user 0 walks on where user 1 is
// known to have gone.
func TestLessonsLastEvent(t *testing.T) {
	histories := walks(4)
	histories[0] = append(histories[0][:4:4], data.Interaction{Item: 5})
	l, err := quantize.Lessons(t.Context(), followed(20), histories, 20, quantize.LessonOptions{Augment: -1, Top: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if items, probs := l.Targets.Kept(4); items[0] != 6 || probs[0] < 0.5 {
		t.Errorf("after the last event the teacher expects %d with %v, want 6", items[0], probs[0])
	}
}

func TestLessonsAugment(t *testing.T) {
	const users, items = 20, 60
	r := rand.New(rand.NewPCG(1, 9))
	histories := make([][]data.Interaction, users)
	for u := range histories {
		for range 1 + r.IntN(12) {
			histories[u] = append(histories[u], data.Interaction{Item: int32(r.IntN(items / 2)), Type: uint8(r.IntN(3)), Time: int64(r.IntN(100))})
		}
	}
	ask := func(o quantize.LessonOptions) hostgpu.Lessons {
		l, err := quantize.Lessons(t.Context(), followed(items), histories, items, o, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	o := quantize.LessonOptions{Augment: 2, Swap: 0.5, Seed: 4}
	l := ask(o)
	if len(l.Lessons) != 3*users {
		t.Fatalf("%d lessons, want %d", len(l.Lessons), 3*users)
	}
	events, swapped, longer := 0, 0, 0
	for i, lesson := range l.Lessons {
		events += len(lesson.Events)
		own := histories[lesson.User]
		if i%3 == 0 {
			if !reflect.DeepEqual(lesson.Events, own) {
				t.Errorf("lesson %d is not the history of user %d", i, lesson.User)
			}
			continue
		}
		if len(lesson.Events) < 1 || len(lesson.Events) > len(own)+5 {
			t.Errorf("%d events made of %d", len(lesson.Events), len(own))
		}
		if len(lesson.Events) > len(own) {
			longer++
		}
		for j, e := range lesson.Events {
			if lesson.Next[j] != -1 {
				t.Error("a made-up history has a next item")
			}
			if e.Item >= items/2 {
				t.Errorf("item %d has no events and is in a made-up history", e.Item)
			}
			if !slices.ContainsFunc(own, func(x data.Interaction) bool { return x.Item == e.Item }) {
				swapped++
			}
		}
	}
	if events != l.Targets.Len() || swapped == 0 || longer == 0 {
		t.Errorf("%d distributions for %d events, %d items of others, %d histories longer than their own", l.Targets.Len(), events, swapped, longer)
	}
	if !reflect.DeepEqual(l, ask(o)) {
		t.Error("the same seed makes other lessons")
	}
	o.Seed = 5
	if reflect.DeepEqual(l.Lessons, ask(o).Lessons) {
		t.Error("another seed makes the same lessons")
	}
}

func TestLessonsRefuse(t *testing.T) {
	for name, test := range map[string]struct {
		o    quantize.LessonOptions
		warm float64
	}{
		"one fold": {quantize.LessonOptions{Folds: 1}, 1}, "all dropped": {quantize.LessonOptions{Drop: 1}, 1},
		"temperature": {quantize.LessonOptions{Temperature: -1}, 1}, "teacher's temperature": {quantize.LessonOptions{}, 0},
	} {
		teacher := followed(20)
		teacher.Temperature = test.warm
		if _, err := quantize.Lessons(t.Context(), teacher, walks(4), 20, test.o, nil); !errors.Is(err, quantize.ErrLessons) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := quantize.Lessons(ctx, followed(20), walks(4), 20, quantize.LessonOptions{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	broken := followed(20)
	broken.Fit = func([][]data.Interaction) (eval.Sequencer, error) { return nil, fmt.Errorf("no") }
	if _, err := quantize.Lessons(t.Context(), broken, walks(4), 20, quantize.LessonOptions{}, nil); err == nil {
		t.Error("a teacher that cannot be counted was asked")
	}
}
