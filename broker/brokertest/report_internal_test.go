package brokertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// TestReportOfSteps has a broker with every step, one with the first, and one with a
// step but not the one that it needs.
func TestReportOfSteps(t *testing.T) {
	all := steps()
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

// TestStepsComeAfterThoseTheyNeed keeps the ladder in order.
func TestStepsComeAfterThoseTheyNeed(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range steps() {
		for _, need := range s.needs {
			require.True(t, seen[need], "%s needs %s", s.name, need)
		}
		seen[s.name] = true
	}
}
