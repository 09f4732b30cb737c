package web

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// columns is how many columns a chart has.
const columns = 60

// The size of a chart in its own units, which are stretched to what room there is.
const (
	chartWidth  = columns * 10
	chartHeight = 100
)

// chart is a chart as the template draws it.
type chart struct {
	Title, Sum string
	Bars       []shape // stacked, the lowest first
	Lines      []shape
	Hits       []hit
	Grid       []int // heights of lines
	Top        string
	Axis       []string // times below it, from the left to the right
	Label      string   // for who does not see it
	Empty      bool
}

// shape is a series of a chart: a path in a colour, and its name.
type shape struct{ Name, Colour, Path string }

// hit is a column, with what is in it.
type hit struct {
	X    int
	Text string
}

// bucketed are tallies in the columns of a chart.
type bucketed struct {
	from  time.Time
	step  time.Duration
	cells [columns]broker.Tally
	sum   broker.Tally
}

// bucket adds tallies to the columns that they are of.
func bucket(tallies []broker.Tally, from time.Time, step time.Duration, wanted func(*broker.Tally) bool) *bucketed {
	b := &bucketed{from: from, step: step}
	for i := range tallies {
		t := &tallies[i]
		n := int(t.Minute.Sub(from) / step)
		if n < 0 || n >= columns || wanted != nil && !wanted(t) {
			continue
		}
		b.cells[n].Add(t)
		b.sum.Add(t)
	}
	return b
}

// failed is how many attempts of a tally failed.
func failed(t *broker.Tally) int64 { return t.Retried + t.Dead }

// attempts is how many attempts of a tally ended.
func attempts(t *broker.Tally) int64 { return t.Succeeded + t.Retried + t.Dead }

// perMinute is a count of a column as a rate.
func (b *bucketed) perMinute(n int64) float64 { return float64(n) / b.step.Minutes() }

// series is a row of numbers, one for each column; a negative one is none.
type series struct {
	name, colour string
	values       [columns]float64
}

// throughput draws how many runs succeeded and attempts failed.
func (b *bucketed) throughput() *chart {
	good, bad := series{name: "succeeded", colour: "green"}, series{name: "failed attempts", colour: "red"}
	for i := range b.cells {
		good.values[i], bad.values[i] = b.perMinute(b.cells[i].Succeeded), b.perMinute(failed(&b.cells[i]))
	}
	c := &chart{
		Title: "Throughput", Empty: attempts(&b.sum) == 0,
		Sum: fmt.Sprintf("%s succeeded, %s failed attempts", text.Thousands(b.sum.Succeeded), text.Thousands(failed(&b.sum))),
	}
	top := 0.0
	for i := range columns {
		top = max(top, good.values[i]+bad.values[i])
	}
	top = roundUp(top)
	c.Top = ratePerMinute(top) + " per minute"
	c.Bars = []shape{bars(&good, nil, top), bars(&bad, &good, top)}
	c.finish(b, func(i int) string {
		return fmt.Sprintf("%s per minute succeeded, %s failed", ratePerMinute(good.values[i]), ratePerMinute(bad.values[i]))
	})
	return c
}

// failureRate draws which share of the attempts failed.
func (b *bucketed) failureRate() *chart {
	share := series{name: "failed", colour: "red"}
	of := func(t *broker.Tally) float64 {
		if n := attempts(t); n > 0 {
			return 100 * float64(failed(t)) / float64(n)
		}
		return -1
	}
	top := 0.0
	for i := range b.cells {
		share.values[i] = of(&b.cells[i])
		top = max(top, share.values[i])
	}
	top = min(roundUp(max(top, 1)), 100)
	c := &chart{Title: "Failed attempts", Empty: attempts(&b.sum) == 0, Sum: percent(of(&b.sum)) + " of all", Top: percent(top)}
	c.Bars = []shape{bars(&share, nil, top)}
	c.finish(b, func(i int) string { return percent(share.values[i]) + " of the attempts failed" })
	return c
}

func percent(f float64) string {
	switch {
	case f < 0:
		return "none"
	case f > 0 && f < 10:
		return strconv.FormatFloat(f, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(f, 'f', 0, 64) + " %"
}

// durations draws the median and the 95th percentile of what a tally has a histogram of.
func (b *bucketed) durations(title string, of func(*broker.Tally) *broker.Histogram) *chart {
	half, most := series{name: "median", colour: "blue"}, series{name: "95 %", colour: "violet"}
	ms := func(h *broker.Histogram, q float64) float64 {
		if h.Count() == 0 {
			return -1
		}
		return float64(h.Quantile(q)) / float64(time.Millisecond)
	}
	top := 0.0
	for i := range b.cells {
		h := of(&b.cells[i])
		half.values[i], most.values[i] = ms(h, .5), ms(h, .95)
		top = max(top, most.values[i])
	}
	top = roundUp(max(top, 1))
	all := of(&b.sum)
	c := &chart{
		Title: title, Empty: all.Count() == 0, Top: msText(top),
		Sum: fmt.Sprintf("median %s, 95 %% within %s", msText(ms(all, .5)), msText(ms(all, .95))),
	}
	c.Lines = []shape{line(&most, top), line(&half, top)}
	c.finish(b, func(i int) string {
		if half.values[i] < 0 {
			return "no attempt"
		}
		return fmt.Sprintf("median %s, 95 %% within %s", msText(half.values[i]), msText(most.values[i]))
	})
	return c
}

func msText(ms float64) string {
	if ms < 0 {
		return "unknown"
	}
	return span(time.Duration(ms * float64(time.Millisecond)))
}

// charts are those of a page.
func (b *bucketed) charts() []*chart {
	return []*chart{
		b.throughput(),
		b.failureRate(),
		b.durations("Time of attempts", func(t *broker.Tally) *broker.Histogram { return &t.Times }),
		b.durations("Wait from due to start", func(t *broker.Tally) *broker.Histogram { return &t.Waits }),
	}
}

// finish adds what all charts have.
func (c *chart) finish(b *bucketed, text func(i int) string) {
	c.Grid = []int{0, chartHeight / 2, chartHeight}
	c.Label = c.Title + ": " + c.Sum
	layout := "15:04"
	if b.step >= 30*time.Minute {
		layout = "Jan 2, 15:04"
	}
	for i := 0; i <= 3; i++ {
		c.Axis = append(c.Axis, b.from.Add(time.Duration(i*columns/3)*b.step).UTC().Format(layout))
	}
	if c.Empty {
		return
	}
	for i := range columns {
		at := b.from.Add(time.Duration(i) * b.step).UTC()
		c.Hits = append(c.Hits, hit{i * 10, at.Format(layout) + " UTC: " + text(i)})
	}
}

// roundUp returns the next number with one digit, or one and a half, times a power of ten.
func roundUp(f float64) float64 {
	if f <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(f)))
	for _, n := range []float64{1, 1.5, 2, 3, 4, 5, 6, 8} {
		if f <= n*power {
			return n * power
		}
	}
	return 10 * power
}

// bars draws a series as bars that stand on those of another, if there is one.
func bars(s, below *series, top float64) shape {
	var b strings.Builder
	for i, v := range s.values {
		if v <= 0 {
			continue
		}
		base := 0.0
		if below != nil {
			base = max(below.values[i], 0)
		}
		y0, y1 := height(base, top), height(base+v, top)
		if y0-y1 < 1 {
			y1 = y0 - 1 // what is there is seen
		}
		fmt.Fprintf(&b, "M%d %sV%sh8V%sz", i*10+1, short(y0), short(y1), short(y0))
	}
	return shape{s.name, s.colour, b.String()}
}

// line draws a series as a line with gaps where there is no value.
func line(s *series, top float64) shape {
	var b strings.Builder
	drawn := false
	for i, v := range s.values {
		if v < 0 {
			drawn = false
			continue
		}
		x, y := i*10+5, height(v, top)
		switch alone := !drawn && (i == columns-1 || s.values[i+1] < 0); {
		case alone:
			fmt.Fprintf(&b, "M%d %sh6", x-3, short(y))
		case drawn:
			fmt.Fprintf(&b, "L%d %s", x, short(y))
		default:
			fmt.Fprintf(&b, "M%d %s", x, short(y))
		}
		drawn = true
	}
	return shape{s.name, s.colour, b.String()}
}

func height(v, top float64) float64 { return chartHeight - min(v/top, 1)*chartHeight }

func short(f float64) string { return strconv.FormatFloat(math.Round(f*10)/10, 'f', -1, 64) }
