package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/wisp-project/wisp/internal/eval"
)

// Numbers as people read them: three significant digits, and a unit that keeps them
// short. A blank between number and unit does not break.
const blank = "\u00a0"

// scaled writes v with the largest unit that leaves at least 1.
func scaled(v float64, units ...string) string {
	i := 0
	for i+1 < len(units) && math.Abs(v) >= 999.5 {
		v /= 1000
		i++
	}
	return strings.TrimSuffix(digits(v)+blank+units[i], blank)
}

func bytesText(n float64) string { return scaled(n, "B", "KB", "MB", "GB", "TB") }
func countText(n float64) string { return scaled(n, "", "K", "M", "G", "T", "P") }
func jouleText(j float64) string { return scaled(j*1e6, "µJ", "mJ", "J", "kJ") }

// timeText writes microseconds.
func timeText(us float64) string {
	if us >= 60e6 {
		return digits(us/60e6) + blank + "min"
	}
	return scaled(us, "µs", "ms", "s")
}

// digits writes v with three significant digits, thousands apart.
func digits(v float64) string {
	a := math.Abs(v)
	switch {
	case a >= 99.5:
		return grouped(math.Round(v))
	case a >= 9.95:
		return trimmed(strconv.FormatFloat(v, 'f', 1, 64))
	case a >= 0.0995:
		return trimmed(strconv.FormatFloat(v, 'f', 2, 64))
	case v == 0:
		return "0"
	case a >= 0.00095:
		return strconv.FormatFloat(v, 'f', 4, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// trimmed drops zeros behind the point.
func trimmed(s string) string { return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") }

func grouped(v float64) string {
	s := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	if v < 0 {
		return "−" + s
	}
	return s
}

func moneyText(currency string, v float64) string {
	if v > 0 && v < 0.01 {
		return "below " + currency + blank + "0.01"
	}
	if v < 99.5 {
		return currency + blank + strconv.FormatFloat(v, 'f', 2, 64)
	}
	return currency + blank + grouped(math.Round(v))
}

func percent(v float64) string {
	s := strconv.FormatFloat(100*v, 'f', 1, 64)
	return strings.TrimSuffix(s, ".0") + blank + "%"
}

// times writes how many times more a is than b.
func times(a, b float64) string {
	if b <= 0 || a <= 0 {
		return ""
	}
	return digits(a/b) + "×"
}

func interval(i eval.Interval) string {
	return fmt.Sprintf("%.3f–%.3f", i.Low, i.High)
}
