package hostgpu_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/wisp-project/wisp/hostgpu"
	"github.com/wisp-project/wisp/internal/baseline"
	"github.com/wisp-project/wisp/internal/data"
	"github.com/wisp-project/wisp/internal/eval"
)

var _ eval.RatingPredictor = (*hostgpu.RatingHead)(nil)

// shop is a made world of ratings: goods of four categories, which the users of
// two professions like in opposite ways, and a taste of each user's own.
type shop struct {
	users             []data.User
	items             []data.Item
	train, held, cold [][]data.Interaction // cold: of the last item, which train lacks
}

func newShop(users, items int, share float64) *shop {
	r := rand.New(rand.NewPCG(8, 0))
	s := &shop{}
	for i := range items {
		category := []string{"tools", "garden", "books", "games"}[i%4]
		s.items = append(s.items, data.Item{
			ID: fmt.Sprint(i), Title: category + " no " + fmt.Sprint(i), Categories: []string{category},
			Attributes: map[string]string{"price": fmt.Sprint(i * 3)},
		})
	}
	taste, quality := normal(r, 2*users, 1), normal(r, 3*items, 0.5)
	s.train, s.held, s.cold = make([][]data.Interaction, users), make([][]data.Interaction, users), make([][]data.Interaction, users)
	for u := range users {
		s.users = append(s.users, data.User{ID: fmt.Sprint(u), Attributes: map[string]string{"profession": []string{"gardener", "clerk"}[u%2]}})
		for i := range items {
			sign := float32(2*(u%2)-1) * float32(1-2*(i%4/2))
			v := 3 + sign + quality[3*i] + taste[2*u]*quality[3*i+1] + taste[2*u+1]*quality[3*i+2]
			e := data.Interaction{Item: int32(i), Value: v}
			switch {
			case i == items-1:
				s.cold[u] = append(s.cold[u], e)
			case r.Float64() < share:
				s.train[u] = append(s.train[u], e)
			default:
				s.held[u] = append(s.held[u], e)
			}
		}
	}
	return s
}

func (s *shop) fit(t *testing.T, valid [][]data.Interaction, o hostgpu.RatingOptions) *hostgpu.RatingHead {
	t.Helper()
	h, err := hostgpu.TrainRatings(t.Context(), s.users, s.items, s.train, valid, o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ratingRMSE(t *testing.T, p eval.RatingPredictor, histories [][]data.Interaction) float64 {
	t.Helper()
	e, err := eval.MeasureRatings(p, histories)
	if err != nil {
		t.Fatal(err)
	}
	return e.RMSE
}

func TestRatingLossGradient(t *testing.T) {
	s := newShop(5, 6, 0.6)
	for name, o := range map[string]hostgpu.RatingOptions{
		"all features":      {Dim: 3},
		"identity only":     {Dim: 3, Partners: -1, Attributes: -1, Text: -1},
		"no regularisation": {Dim: 3, L2: -1, BiasL2: -1},
		"biases only":       {Dim: 1, BiasL2: 5},
	} {
		t.Run(name, func(t *testing.T) {
			k, users, items := hostgpu.NewRatingLoss(s.users, s.items, s.train, o)
			r := rand.New(rand.NewPCG(1, 0))
			checkGradients(t, k, []hostgpu.Arg{{Floats: normal(r, users*(o.Dim+1), 0.5)}, {Floats: normal(r, items*(o.Dim+1), 0.5)}})
		})
	}
}

// TestRatingLossByHand works the loss out for one user and two items: ratings 5
// and 1 are +1 and -1 of their standard deviation 2 from the mean. Features are
// identities only.
func TestRatingLossByHand(t *testing.T) {
	train := [][]data.Interaction{{{Item: 0, Value: 5}, {Item: 1, Value: 1}}}
	k, users, items := hostgpu.NewRatingLoss(nil, make([]data.Item, 2), train,
		hostgpu.RatingOptions{Dim: 1, L2: 3, BiasL2: 0.5, Partners: -1, Attributes: -1, Text: -1})
	if users != 1 || items != 2 {
		t.Fatalf("%d and %d features; want 1 and 2", users, items)
	}
	if _, u, v := hostgpu.NewRatingLoss(nil, make([]data.Item, 2), train, hostgpu.RatingOptions{}); u != 3 || v != 3 {
		t.Errorf("%d and %d features; want 3 and 3, with the items of the user and the user of the items", u, v)
	}
	// User: bias 0.5, vector 2. Items: biases 0.25 and -1, vectors 1 and -0.5.
	got := k.Forward([]hostgpu.Arg{{Floats: []float32{0.5, 2}}, {Floats: []float32{0.25, 1, -1, -0.5}}})[0]
	first, second := 0.5+0.25+2*1-1, 0.5-1+2*-0.5+1
	user := math.Sqrt2 * (3*2*2 + 0.5*0.5*0.5) // two ratings
	others := 3*(1*1+0.5*0.5) + 0.5*(0.25*0.25+1*1)
	want := (first*first + second*second + user + others) / 4
	if math.Abs(float64(got)-want) > 1e-5 {
		t.Errorf("loss %v; want %v", got, want)
	}
}

func TestRatingHeadLearnsTaste(t *testing.T) {
	s := newShop(80, 41, 0.5)
	o := hostgpu.RatingOptions{Dim: 8, L2: 0.3, BiasL2: 0.3, LearningRate: 0.03}
	head := s.fit(t, nil, o)
	bias, err := baseline.NewRatingBias(s.train, len(s.items), baseline.RatingBiasOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, before := ratingRMSE(t, head, s.held), ratingRMSE(t, bias, s.held); got > 0.3 || before < 1 {
		t.Errorf("RMSE %.3f, of biases %.3f; want at most 0.3, and at least 1", got, before)
	}
	// Nobody rated the last item, but its category and its words say who likes it.
	plain := o
	plain.Attributes, plain.Text = -1, -1
	if got, before := ratingRMSE(t, head, s.cold), ratingRMSE(t, s.fit(t, nil, plain), s.cold); got > 0.8*before {
		t.Errorf("RMSE for the item without ratings %.3f, without features %.3f; want four fifths at most", got, before)
	}
}

func TestRatingHeadIsDeterministic(t *testing.T) {
	s := newShop(20, 12, 0.5)
	o := hostgpu.RatingOptions{Dim: 4, Steps: 30, Seed: 7}
	a := s.fit(t, nil, o)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	b := s.fit(t, nil, o)
	o.Seed = 8
	c := s.fit(t, nil, o)
	for u := range int32(20) {
		for i := range int32(12) {
			if a.Predict(u, i) != b.Predict(u, i) {
				t.Fatalf("user %d, item %d: %v and %v with the same seed", u, i, a.Predict(u, i), b.Predict(u, i))
			}
		}
	}
	if a.Predict(1, 2) == c.Predict(1, 2) {
		t.Error("another seed gives the same prediction")
	}
}

// counting counts how often training asks whether it is to go on: once a step.
type counting struct {
	context.Context
	asked int
}

func (c *counting) Err() error {
	c.asked++
	return c.Context.Err()
}

func TestRatingHeadStopsEarly(t *testing.T) {
	s := newShop(40, 21, 0.3)
	o := hostgpu.RatingOptions{Dim: 16, Steps: 400, LearningRate: 0.05, L2: -1, BiasL2: -1} // learns the ratings by heart
	ctx := &counting{Context: t.Context()}
	stopped, err := hostgpu.TrainRatings(ctx, s.users, s.items, s.train, s.held, o)
	if err != nil {
		t.Fatal(err)
	}
	if want := stopped.Steps() + 3*10 + 1; ctx.asked != want {
		t.Errorf("went on for %d steps; want %d, three validations beyond the best", ctx.asked, want)
	}
	whole := s.fit(t, nil, o)
	if whole.Steps() != 400 || stopped.Steps() >= 400 || stopped.Steps()%10 != 0 {
		t.Errorf("%d steps, stopped after %d; want 400, and fewer by tens", whole.Steps(), stopped.Steps())
	}
	o.Patience = 1000 // goes on to the end and comes back to the best
	patient := s.fit(t, s.held, o)
	a, b, c := ratingRMSE(t, patient, s.held), ratingRMSE(t, stopped, s.held), ratingRMSE(t, whole, s.held)
	if a > b || b >= c || patient.Steps() >= 400 {
		t.Errorf("validation RMSE %.4f with patience, %.4f stopped, %.4f not stopped; want this order", a, b, c)
	}
}

// TestRatingHeadFallsBack asks for users and items that do not exist.
func TestRatingHeadFallsBack(t *testing.T) {
	s := newShop(20, 13, 0.5)
	s.train[3] = nil
	head := s.fit(t, nil, hostgpu.RatingOptions{Dim: 4})
	lo, hi, sum, n := math.Inf(1), math.Inf(-1), 0.0, 0
	for _, h := range s.train {
		for _, e := range h {
			lo, hi = min(lo, float64(e.Value)), max(hi, float64(e.Value))
			sum, n = sum+float64(e.Value), n+1
		}
	}
	if got, want := head.Predict(-1, 99), sum/float64(n); math.Abs(got-want) > 1e-9 {
		t.Errorf("neither exists: %v; want the mean %v", got, want)
	}
	for _, c := range []struct{ user, item int32 }{{3, 0}, {20, 0}, {-1, 0}, {0, 13}, {0, -1}, {math.MaxInt32, math.MaxInt32}} {
		if r := head.Predict(c.user, c.item); !(r >= lo && r <= hi) {
			t.Errorf("user %d, item %d: %v is out of the range of the ratings", c.user, c.item, r)
		}
	}
	if a, b := head.Predict(-1, 0), head.Predict(-1, 1); a == b {
		t.Errorf("items 0 and 1 are both %v for a user that does not exist; want their biases", a)
	}
}

func TestAttributeFeatures(t *testing.T) {
	var rows []map[string]string
	for i := range 20 {
		rows = append(rows, map[string]string{"age": fmt.Sprint(20 + i/4*4), "town": []string{"north", "south", "south", "south"}[i%4], "street": fmt.Sprint("no ", i)})
	}
	rows = append(rows, nil, map[string]string{"town": "nowhere", "age": " "})
	columns, values := hostgpu.AttributeFeatures(rows, 0.5)
	for i := range 20 {
		// Ages in tenths, where equal ages stay together, and towns; streets are all different.
		if len(columns[i]) != 2 || !slices.Equal(values[i], []float32{0.5, 0.5}) {
			t.Fatalf("row %d has columns %v, values %v; want age and town", i, columns[i], values[i])
		}
		if j := i / 4 * 4; columns[i][0] != columns[j][0] || i >= 4 && columns[i][0] == columns[i-4][0] {
			t.Errorf("row %d has age %d, row %d %d; want four rows alike", i, columns[i][0], j, columns[j][0])
		}
		if j := i%4 + 4; (i%4 == 0) == (columns[i][1] == columns[1][1]) {
			t.Errorf("row %d has town %d, row %d %d", i, columns[i][1], j, columns[j][1])
		}
	}
	if len(columns[20]) != 0 || len(columns[21]) != 0 {
		t.Errorf("rows without known attributes have columns %v and %v", columns[20], columns[21])
	}
}

func TestTrainRatingsErrors(t *testing.T) {
	s := newShop(4, 5, 0.7)
	nan := float32(math.NaN())
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx          context.Context
		users        []data.User
		train, valid [][]data.Interaction
		opts         hostgpu.RatingOptions
		want         error
	}{
		"negative dim":            {t.Context(), s.users, s.train, nil, hostgpu.RatingOptions{Dim: -1}, hostgpu.ErrOptions},
		"rate not a number":       {t.Context(), s.users, s.train, nil, hostgpu.RatingOptions{LearningRate: math.NaN()}, hostgpu.ErrOptions},
		"negative rate":           {t.Context(), s.users, s.train, nil, hostgpu.RatingOptions{LearningRate: -1}, hostgpu.ErrOptions},
		"users of another set":    {t.Context(), s.users[:2], s.train, nil, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"no ratings":              {t.Context(), s.users, make([][]data.Interaction, 4), nil, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"no users":                {t.Context(), nil, nil, nil, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"item outside":            {t.Context(), nil, [][]data.Interaction{{{Item: 5, Value: 1}}}, nil, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"rating not a number":     {t.Context(), nil, [][]data.Interaction{{{Value: nan}}}, nil, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"validation item outside": {t.Context(), s.users, s.train, [][]data.Interaction{{{Item: -1, Value: 1}}}, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"validation user outside": {t.Context(), s.users, s.train, [][]data.Interaction{nil, nil, nil, nil, {{Value: 1}}}, hostgpu.RatingOptions{}, hostgpu.ErrData},
		"diverges":                {t.Context(), s.users, s.train, nil, hostgpu.RatingOptions{LearningRate: 1e30}, hostgpu.ErrDiverged},
		"cancelled":               {cancelled, s.users, s.train, nil, hostgpu.RatingOptions{}, context.Canceled},
	} {
		if _, err := hostgpu.TrainRatings(c.ctx, c.users, s.items, c.train, c.valid, c.opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
	equal := [][]data.Interaction{{{Item: 0, Value: 4}, {Item: 1, Value: 4}}}
	h, err := hostgpu.TrainRatings(t.Context(), nil, s.items, equal, nil, hostgpu.RatingOptions{})
	if err != nil || h.Predict(0, 2) != 4 {
		t.Errorf("equal ratings: %v; want a head that predicts 4", err)
	}
}
