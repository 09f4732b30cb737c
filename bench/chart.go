package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// bar is one line of the chart: how many times better this project is.
type bar struct {
	label, against string
	better         spread
}

// barsOf returns the bars of the chart, ordered by opponent.
func barsOf(outcomes []outcome) []bar {
	var bars []bar
	for _, against := range []string{asynqSystem{}.name(), rawSystem{}.name()} {
		for _, o := range outcomes {
			i := o.find(against)
			if i < 0 {
				continue
			}
			for _, c := range o.chart {
				r := o.ratio(i, c.figure)
				if !more(c.figure) {
					r = r.inverse()
				}
				if !math.IsNaN(r.median) {
					bars = append(bars, bar{c.label, against, r})
				}
			}
		}
	}
	return bars
}

func more(figure string) bool {
	for _, f := range figures {
		if f.name == figure {
			return f.more
		}
	}
	return false
}

// Dimensions of the chart in pixels.
const (
	chartWidth = 760
	plotLeft   = 236
	plotRight  = 690
	rowHeight  = 26
	barHeight  = 14
	headHeight = 78
	footHeight = 34
	groupGap   = 34
)

// chartStyle has both colour schemes, so that the image fits the page around it.
const chartStyle = `
    text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-size: 17px; font-weight: 600 }
    .group { font-weight: 600 }
    .quiet { fill: #59636e; font-size: 12px }
    .page { fill: #ffffff; stroke: #d1d9e0 }
    .grid { stroke: #d1d9e0; stroke-width: 1 }
    .one { stroke: #59636e; stroke-width: 1.5 }
    .spread { stroke: #1f2328; stroke-width: 1.5 }
    .asynq { fill: #2f7de1 }
    .go-redis { fill: #1a9c72 }
    .worse { fill: #c9702b }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .quiet { fill: #9198a1 }
      .page { fill: #0d1117; stroke: #3d444d }
      .grid { stroke: #2f353d }
      .one { stroke: #9198a1 }
      .spread { stroke: #f0f6fc }
      .asynq { fill: #3f8cf0 }
      .go-redis { fill: #22a67a }
      .worse { fill: #d98443 }
    }
  `

// scale is a logarithmic axis over the width of the plot.
type scale struct{ low, high float64 }

// scaleOf returns a scale that includes all bars and 1.
func scaleOf(bars []bar) scale {
	s := scale{0.8, 2}
	for _, b := range bars {
		s.low = min(s.low, b.better.min/1.1)
		s.high = max(s.high, b.better.max)
	}
	return s
}

func (s scale) x(v float64) float64 {
	return plotLeft + (plotRight-plotLeft)*math.Log(v/s.low)/math.Log(s.high/s.low)
}

// renderChart draws the bars as a self-contained SVG image.
func renderChart(bars []bar) []byte {
	s := scaleOf(bars)
	height := headHeight + len(groupsOf(bars))*groupGap + len(bars)*rowHeight + footHeight
	out := new(bytes.Buffer)
	fmt.Fprintf(out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n",
		chartWidth, height, chartWidth, height, html.EscapeString(chartText(bars)))
	fmt.Fprintf(out, "  <style>%s</style>\n", chartStyle)
	fmt.Fprintf(out, `  <rect class="page" x="0.5" y="0.5" width="%d" height="%d" rx="8"/>`+"\n", chartWidth-1, height-1)
	text(out, "title", "start", 24, 36, "How many times better taskgen is")
	text(out, "quiet", "start", 24, 58, "Median of the rounds; the thin line goes from the lowest to the highest round. Logarithmic scale.")
	y := float64(headHeight)
	for _, group := range groupsOf(bars) {
		y = drawGroup(out, s, group, y)
	}
	for _, v := range s.ticks() {
		text(out, "quiet", "middle", s.x(v), y+16, axisLabel(v))
	}
	out.WriteString("</svg>\n")
	return out.Bytes()
}

// drawGroup draws the bars against one opponent from y on, and returns where they end.
func drawGroup(out *bytes.Buffer, s scale, group []bar, y float64) float64 {
	text(out, "group", "start", 24, y+groupGap/2, groupTitle(group[0].against))
	y += groupGap
	for _, v := range s.ticks() {
		drawTick(out, s, v, y-4, y+float64(len(group)*rowHeight)-6)
	}
	for _, b := range group {
		drawBar(out, s, b, y)
		y += rowHeight
	}
	return y
}

// groupsOf groups the bars by opponent.
func groupsOf(bars []bar) [][]bar {
	var groups [][]bar
	for i, b := range bars {
		if i == 0 || bars[i-1].against != b.against {
			groups = append(groups, nil)
		}
		last := len(groups) - 1
		groups[last] = append(groups[last], b)
	}
	return groups
}

func text(out *bytes.Buffer, class, anchor string, x, y float64, s string) {
	fmt.Fprintf(out, `  <text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, anchor, x, y, html.EscapeString(s))
}

func drawTick(out *bytes.Buffer, s scale, v, top, bottom float64) {
	class := "grid"
	if v == 1 {
		class = "one"
	}
	fmt.Fprintf(out, `  <line class="%s" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", class, s.x(v), s.x(v), top, bottom)
}

// drawBar draws a bar from 1 to the median with the spread over it, the name on the
// left and the median on the right.
func drawBar(out *bytes.Buffer, s scale, b bar, y float64) {
	text(out, "label", "start", 36, y+barHeight-2, b.label)
	text(out, "value", "start", math.Max(s.x(b.better.max), s.x(1))+8, y+barHeight-2, axisLabel(b.better.median))
	from, to, class := s.x(1), s.x(b.better.median), b.against
	if to < from {
		from, to, class = to, from, "worse"
	}
	fmt.Fprintf(out, `  <rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%d" rx="2"/>`+"\n", class, from, y, math.Max(to-from, 1.5), barHeight)
	middle := y + barHeight/2
	fmt.Fprintf(out, `  <line class="spread" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`+"\n", s.x(b.better.min), s.x(b.better.max), middle, middle)
}

// ticks returns the values on the axis: 1, 3, 10, 30 and so on, and 0.3 and so on.
func (s scale) ticks() []float64 {
	var all []float64
	for exp := math.Floor(math.Log10(s.low)); exp <= math.Log10(s.high); exp++ {
		for _, digit := range []float64{1, 3} {
			if v := digit * math.Pow(10, exp); v >= s.low && v <= s.high {
				all = append(all, v)
			}
		}
	}
	return all
}

func axisLabel(v float64) string {
	if v >= 0.2 {
		return times(v)
	}
	return fmt.Sprintf("%.2g×", v)
}

func groupTitle(against string) string {
	if against == (rawSystem{}).name() {
		return "than bare Redis commands through " + against + ", without any guarantee"
	}
	return "than " + against
}

// chartText describes the chart in text.
func chartText(bars []bar) string {
	var b bytes.Buffer
	b.WriteString("Bar chart: how many times better taskgen is.")
	for _, group := range groupsOf(bars) {
		fmt.Fprintf(&b, " Than %s:", group[0].against)
		for i, bar := range group {
			if i > 0 {
				b.WriteByte(';')
			}
			fmt.Fprintf(&b, " %s %s", bar.label, axisLabel(bar.better.median))
		}
		b.WriteByte('.')
	}
	return b.String()
}
