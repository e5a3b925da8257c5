package report

import "errors"

// Errors of this package; every error it returns wraps one of them.
var (
	// ErrPrices reports a table of prices that cannot be read, or that says what
	// cannot be.
	ErrPrices = errors.New("report: invalid prices")
	// ErrReport reports a file that is no report of this version.
	ErrReport = errors.New("report: invalid report")
)
