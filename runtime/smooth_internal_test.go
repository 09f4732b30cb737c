package runtime

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestSmoothRatesAddUp checks that no more runs start in any time than the rate allows,
// and that a rate of thousands a second does not wake a consumer for each.
func TestSmoothRatesAddUp(t *testing.T) {
	for _, test := range []struct {
		max  int
		per  time.Duration
		want []broker.Limit
	}{
		{100, time.Minute, []broker.Limit{{Key: "k/smooth", Max: 1, Per: 600 * time.Millisecond}}},
		{3, time.Second, []broker.Limit{{Key: "k/smooth", Max: 1, Per: 333333334}}},
		{1, time.Hour, []broker.Limit{{Key: "k", Max: 1, Per: time.Hour}}},
		{1000, time.Second, []broker.Limit{{Key: "k/smooth", Max: 20, Per: 20 * time.Millisecond}}},
		{1001, time.Second, []broker.Limit{{Key: "k", Max: 1001, Per: time.Second}, {Key: "k/smooth", Max: 21, Per: 20979021}}},
		{5, 10 * time.Millisecond, []broker.Limit{{Key: "k", Max: 5, Per: 10 * time.Millisecond}}},
	} {
		l := Limit{Rate: test.max, Per: test.per, Smooth: true}
		got := l.appendRate(nil, "k")
		require.Equal(t, test.want, got)
		last := got[len(got)-1]
		if len(got) == 1 {
			require.LessOrEqual(t, int(test.per/last.Per)*last.Max, test.max)
		}
		l.Smooth = false
		require.Equal(t, []broker.Limit{{Key: "k", Max: test.max, Per: test.per}}, l.appendRate(nil, "k"))
	}
}
