package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// outcome is the result of a scenario: the samples of each subject, by round.
type outcome struct {
	scenario
	samples [][]sample
}

// spread is the range of one figure over the rounds.
type spread struct{ median, min, max float64 }

func spreadOf(values []float64) spread {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 || slices.ContainsFunc(sorted, math.IsNaN) {
		return spread{math.NaN(), math.NaN(), math.NaN()}
	}
	half := len(sorted) / 2
	median := sorted[half]
	if len(sorted)%2 == 0 {
		median = (sorted[half-1] + sorted[half]) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}
}

// inverse returns the spread of the reciprocals.
func (s spread) inverse() spread { return spread{1 / s.median, 1 / s.max, 1 / s.min} }

// has reports whether a figure was measured.
func (o *outcome) has(figure string) bool {
	_, ok := o.samples[0][0][figure]
	return ok
}

// of returns the spread of a subject's figure.
func (o *outcome) of(subject int, figure string) spread {
	values := make([]float64, len(o.samples[subject]))
	for round, s := range o.samples[subject] {
		v, ok := s[figure]
		if !ok {
			v = math.NaN()
		}
		values[round] = v
	}
	return spreadOf(values)
}

// ratio returns the spread of the first subject's figure divided by another's. Each
// round has one ratio, so noise that affects a whole round cancels out. It is NaN if
// a figure is 0.
func (o *outcome) ratio(subject int, figure string) spread {
	values := make([]float64, len(o.samples[0]))
	for round, ours := range o.samples[0] {
		values[round] = math.NaN()
		if theirs := o.samples[subject][round]; ours[figure] > 0 && theirs[figure] > 0 {
			values[round] = ours[figure] / theirs[figure]
		}
	}
	return spreadOf(values)
}

// find returns the index of a subject, -1 if it was not measured.
func (o *outcome) find(name string) int {
	return slices.IndexFunc(o.subjects, func(s subject) bool { return s.name == name })
}

// verdict is a goal and the measured value.
type verdict struct {
	what, figure         string
	ours, theirs         string // theirs is empty if the goal is for the figure itself
	ratio, lowest, upper string // as above
	target               string
	reached              bool
}

// spread returns the ratio with its range over the rounds, or "".
func (v verdict) spread() string {
	if v.ratio == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s … %s)", v.ratio, v.lowest, v.upper)
}

// verdicts compares the goals of a scenario with its medians. It omits goals against
// subjects that were not measured.
func (o *outcome) verdicts() []verdict {
	var all []verdict
	for _, g := range o.goals {
		if v, ok := o.verdict(g); ok {
			all = append(all, v)
		}
	}
	return all
}

// verdict compares one goal. It reports false if it is against a subject that was not
// measured.
func (o *outcome) verdict(g goal) (v verdict, ok bool) {
	got := o.of(0, g.figure).median
	v = verdict{what: o.name, figure: g.figure, ours: number(got), target: g.String()}
	if g.against != "" {
		i := o.find(g.against)
		if i < 0 {
			return v, false
		}
		r := o.ratio(i, g.figure)
		v.theirs = number(o.of(i, g.figure).median)
		v.ratio, v.lowest, v.upper = times(r.median), times(r.min), times(r.max)
		got = r.median
	}
	v.reached = got >= g.atLeast && (g.atMost == 0 || got <= g.atMost)
	return v, true
}

func (g goal) String() string {
	sign, bound := "≥", g.atLeast
	if g.atMost != 0 {
		sign, bound = "≤", g.atMost
	}
	if g.against == "" {
		return sign + " " + strconv.FormatFloat(bound, 'g', -1, 64)
	}
	if bound < 0.2 { // as a fraction
		return sign + " " + times(bound) + " of " + g.against
	}
	return sign + " " + times(bound) + " " + g.against
}

// table returns the figures of a scenario: a head, a row for each subject, and the
// ratios below each but the first.
func (o *outcome) table() [][]string {
	head := []string{""}
	rows := make([][]string, len(o.subjects))
	ratios := make([][]string, len(o.subjects))
	for i, s := range o.subjects {
		rows[i], ratios[i] = []string{s.name}, []string{"ratio"}
	}
	for _, f := range figures {
		if !o.has(f.name) {
			continue
		}
		head = append(head, f.name)
		for i := range o.subjects {
			rows[i] = append(rows[i], number(o.of(i, f.name).median))
			ratios[i] = append(ratios[i], o.ratio(i, f.name).ratioText())
		}
	}
	all := [][]string{head, rows[0]}
	for i := 1; i < len(rows); i++ {
		all = append(all, rows[i], ratios[i])
	}
	return all
}

// ratioText formats the spread of a ratio.
func (s spread) ratioText() string {
	if math.IsNaN(s.median) {
		return times(s.median)
	}
	return times(s.median) + " (" + times(s.min) + " … " + times(s.max) + ")"
}

// printOutcome prints the medians of a scenario.
func printOutcome(out io.Writer, o *outcome) {
	fmt.Fprintf(out, "%s\n", o.name)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range o.table() {
		fmt.Fprintf(w, "%s\t\n", strings.Join(row, "\t"))
	}
	w.Flush() // out is standard output
	fmt.Fprintln(out)
}

// printGoals prints each goal and whether it was reached.
func printGoals(out io.Writer, outcomes []outcome) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, o := range outcomes {
		for _, v := range o.verdicts() {
			mark := "MISSED"
			if v.reached {
				mark = "reached"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", mark, v.what, v.figure, cmp.Or(v.spread(), v.ours), v.target)
		}
	}
	w.Flush() // see above
}

// number formats a figure with about three digits.
func number(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case v >= 1000:
		return thousands(int64(math.Round(v)))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// times formats a ratio: 29×, 1.04×, 0.45×, 1/35.
func times(r float64) string {
	switch {
	case math.IsNaN(r):
		return "–"
	case r >= 9.95:
		return thousands(int64(math.Round(r))) + "×"
	case r >= 2:
		return strconv.FormatFloat(math.Round(r*10)/10, 'f', -1, 64) + "×"
	case r >= 0.2:
		return strconv.FormatFloat(math.Round(r*100)/100, 'f', -1, 64) + "×"
	}
	return "1/" + strings.TrimSuffix(times(1/r), "×")
}

// thousands formats an integer in groups of three digits.
func thousands(n int64) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
