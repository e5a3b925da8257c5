package data

import "fmt"

// Report says what became of the rows of one source file.
type Report struct {
	Rows    int64  `json:"rows"` // as read
	Kept    int64  `json:"kept"`
	Dropped []Drop `json:"dropped,omitempty"` // in the order of the steps
}

// Drop counts the rows dropped for one reason.
type Drop struct {
	Reason   string   `json:"reason"`
	Count    int64    `json:"count"`
	Examples []string `json:"examples,omitempty"` // at most MaxExamples, "file:line: reason"
}

// MaxExamples is the number of examples that a report keeps for each reason.
const MaxExamples = 5

// Count returns the number of rows dropped for the given reason.
func (r *Report) Count(reason string) int64 {
	for _, d := range r.Dropped {
		if d.Reason == reason {
			return d.Count
		}
	}
	return 0
}

// String returns the counts on one line.
func (r *Report) String() string {
	s := fmt.Sprintf("%d of %d rows kept", r.Kept, r.Rows)
	for _, d := range r.Dropped {
		s += fmt.Sprintf("; %d dropped: %s", d.Count, d.Reason)
	}
	return s
}

func (r *Report) drop(reason string, n int64, example string) {
	if n == 0 {
		return
	}
	at := -1
	for i := range r.Dropped {
		if r.Dropped[i].Reason == reason {
			at = i
		}
	}
	if at < 0 {
		at = len(r.Dropped)
		r.Dropped = append(r.Dropped, Drop{Reason: reason})
	}
	d := &r.Dropped[at]
	d.Count += n
	if example != "" && len(d.Examples) < MaxExamples {
		d.Examples = append(d.Examples, example)
	}
}
