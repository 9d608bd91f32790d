package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A row is a line of the results: a measurement, and whether it meets its goal.
type row struct {
	what        string
	ours, other string
	value       string // the value that the goal applies to
	spread      string // of value, from the least pair to the greatest
	goal        goal
	met         bool
}

// A goal is a limit, with the unit that follows the number.
type goal struct {
	atLeast bool
	limit   float64
	unit    string
}

func atMost(limit float64, unit string) goal  { return goal{limit: limit, unit: unit} }
func atLeast(limit float64, unit string) goal { return goal{atLeast: true, limit: limit, unit: unit} }

func (g goal) met(value float64) bool {
	if g.atLeast {
		return value >= g.limit
	}
	return value <= g.limit
}

func (g goal) String() string {
	if g.atLeast {
		return fmt.Sprintf("≥ %v%s", g.limit, g.unit)
	}
	return fmt.Sprintf("≤ %v%s", g.limit, g.unit)
}

// ratio returns a row about ours to other: the median of the pairs' ratios.
func ratio(what string, c comparison, unit func(float64) string, g goal) row {
	ratios := c.ratios()
	return ratioOf(what, c.ours.median(), c.other.median(), ratios.median(), ratios, unit, g)
}

func ratioOf(what string, ours, other, value float64, spread samples, unit func(float64) string, g goal) row {
	return row{
		what:   what,
		ours:   unit(ours),
		other:  unit(other),
		value:  times(value),
		spread: times(spread.quantile(0)) + " – " + times(spread.quantile(1)),
		goal:   g,
		met:    g.met(value),
	}
}

// count returns a row about a single number: the median of the samples, of
// which there may be one.
func count(what string, s samples, g goal) row {
	value := s.median()
	r := row{what: what, value: number(value) + g.unit, goal: g, met: g.met(value)}
	if len(s) > 1 {
		r.spread = number(s.quantile(0)) + " – " + number(s.quantile(1)) + g.unit
	}
	return r
}

// beside adds the number of the other side, if the goal does not apply to it.
func (r row) beside(other string) row {
	r.other = other
	return r
}

func times(x float64) string     { return number(x) + " ×" }
func perSecond(x float64) string { return number(x) + " /s" }

// duration formats a number of seconds.
func duration(s float64) string {
	switch {
	case s < 1e-6:
		return number(s*1e9) + " ns"
	case s < 1e-3:
		return number(s*1e6) + " µs"
	case s < 1:
		return number(s*1e3) + " ms"
	}
	return number(s) + " s"
}

// number formats x with three significant digits, and groups of thousands.
func number(x float64) string {
	switch {
	case x < 0:
		return "-" + number(-x)
	case x == 0:
		return "0"
	case x < 0.001:
		return fmt.Sprintf("%.1g", x)
	case x < 1:
		return trimmed(x, 3)
	case x < 9.995:
		return trimmed(x, 2)
	case x < 99.95:
		return trimmed(x, 1)
	}
	scale := 1.0
	for x/scale >= 1000 {
		scale *= 10
	}
	whole := strconv.FormatFloat(float64(int64(x/scale+0.5))*scale, 'f', 0, 64)
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func trimmed(x float64, decimals int) string {
	s := strconv.FormatFloat(x, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}
