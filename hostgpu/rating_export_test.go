package hostgpu

import "github.com/wisp-project/wisp/internal/data"

// NewRatingLoss is the loss of a rating head on train, with the features that
// the head would make. The numbers of user features and of item features are
// the rows of its arguments, whose width is 1 + Dim.
func NewRatingLoss(users []data.User, items []data.Item, train [][]data.Interaction, opts RatingOptions) (k Kernel, userFeatures, itemFeatures int) {
	opts = opts.withDefaults()
	x := newRatingExamples(train, len(items))
	x.standardise()
	u, v := ratingFeatures(users, items, x, opts)
	return Kernel{newRatingLoss(u, v, x, opts)}, u.columns, v.columns
}

// AttributeFeatures returns, for each row, the columns and values of the
// features that its attributes become.
func AttributeFeatures(rows []map[string]string, value float64) (columns [][]int32, values [][]float32) {
	f := newFeatureRows(len(rows))
	f.addAttributes(rows, value)
	s := f.sparse()
	for i := range rows {
		c, v := s.row(i)
		columns, values = append(columns, c), append(values, v)
	}
	return columns, values
}
