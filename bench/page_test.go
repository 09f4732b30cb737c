package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// widths reads a chart as XML and returns the widths of its bars.
func widths(t *testing.T, svg []byte) []float64 {
	t.Helper()
	var all []float64
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err, "%s", svg)
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "rect" {
			continue
		}
		attrs := make(map[string]string)
		for _, a := range start.Attr {
			attrs[a.Name.Local] = a.Value
		}
		if attrs["class"] == "page" {
			continue
		}
		width, err := strconv.ParseFloat(attrs["width"], 64)
		require.NoError(t, err)
		all = append(all, width)
	}
}

func TestChart(t *testing.T) {
	bars := []bar{
		{"rate <&>", "asynq", spread{10, 8, 12}},
		{"CPU", "asynq", spread{100, 90, 110}},
		{"same", "go-redis", spread{1, 0.9, 1.1}},
		{"worse", "go-redis", spread{0.1, 0.05, 0.2}},
	}
	svg := renderChart(bars)
	got := widths(t, svg)
	require.Len(t, got, len(bars))
	require.InDelta(t, 2*got[0], got[1], 0.2, "a hundred times is twice as long as ten times")
	require.InDelta(t, got[0], got[3], 0.2, "a tenth is as long as ten times, to the left")
	require.Contains(t, string(svg), "rate &lt;&amp;&gt;")
	require.NotContains(t, string(svg), "href", "it needs nothing from outside")
	require.NotEmpty(t, renderChart(nil))
}

func TestBarsAreTimesBetter(t *testing.T) {
	bars := barsOf([]outcome{outcomeOf()})
	require.Len(t, bars, 2)
	require.Equal(t, bar{"rate <&>", "asynq", spread{20, 10, 40}}, bars[0])
	require.InDelta(t, 30, bars[1].better.median, 1e-9, "less is better")
	require.Equal(t, "Bar chart: how many times better taskgen is. Than asynq: rate <&> 20×; Redis CPU 30×.", chartText(bars))
}

func TestPage(t *testing.T) {
	outcomes := []outcome{outcomeOf(goal{figure: tasksRate, against: "asynq", atLeast: 25}, goal{figure: redisCPU, atMost: 4})}
	m := machine{Cores: 2, System: "linux/amd64", Go: "1.26.0", Redis: "7.0.15", Asynq: "0.26.0", Rounds: 3, Length: 2 * time.Second, Drain: "100,000", AsynqCheck: asynqCheck}
	page, err := renderPage(m, barsOf(outcomes), outcomes)
	require.NoError(t, err)
	for _, want := range []string{
		"![Bar chart: how many times better taskgen is. Than asynq: ",
		"linux/amd64 with 2 cores", "asynq 0.26.0", "3 rounds, 2s for each",
		"whether this run did: 1 of 2.",
		"| steady | tasks/s | 200 | 10.0 | 20× (10× … 40×) | ≥ 25× asynq | **no** |\n",
		"| steady | Redis µs/task | 2.00 |  |  | ≤ 4 | yes |\n",
		"### steady\n\nWhat is done.\n\n|  | tasks/s | Redis µs/task |\n|---|--:|--:|\n| taskgen | 200 | 2.00 |\n| asynq | 10.0 | 60.0 |\n",
		"`TaskCheckInterval` 10ms instead of 1s",
	} {
		require.Contains(t, string(page), want)
	}
	require.NotContains(t, string(page), "\n\n\n")
}
