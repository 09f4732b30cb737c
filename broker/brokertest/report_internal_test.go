package brokertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// TestReportOfParts has a broker with every part, one with the first, and one with a
// part but not the one that it needs.
func TestReportOfParts(t *testing.T) {
	all := parts()
	whole := memory.New()
	require.NotContains(t, report(whole, all), "lacks")
	require.NotContains(t, report(whole, all), "untested")

	first := report(struct{ broker.Broker }{whole}, all)
	require.Contains(t, first, "\n  has      Broker\n")
	require.Contains(t, first, "\n  lacks    Leaser, for delivery at least once: implement OpenSession, Recover of the broker\n")
	require.Contains(t, first, "\n  lacks    Controls, for inspecting and operating queues: it needs Records, Heartbeater first\n")
	require.Contains(t, first, "\n  lacks    PolicyFair, for //task:fair: it needs Leaser, Policies first\n")
	require.Contains(t, first, "\n  lacks    Clock, for finding schedulers with wrong clocks: it needs Ticks first\n")

	odd := report(struct {
		broker.Broker
		broker.Records
		broker.Ticks
	}{whole, whole, whole}, all)
	require.Contains(t, odd, "\n  untested Records: it needs Leaser\n")
	require.Contains(t, odd, "\n  has      Ticks\n")
	require.Contains(t, odd, "\n  lacks    Clock, for finding schedulers with wrong clocks: implement Now, RewindTicks of the broker\n")
}

// TestPartsComeAfterThoseTheyNeed keeps the list in order.
func TestPartsComeAfterThoseTheyNeed(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range parts() {
		for _, need := range p.needs {
			require.True(t, seen[need], "%s needs %s", p.name, need)
		}
		seen[p.name] = true
	}
}
