//go:build !windows

package taskapp_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSchedulersKilledAtRandomQueueEachTickOnce has five processes queue a tick
// each second, one of which is killed, and started again, every now and then:
// for 8 seconds, or a minute with TASKGEN_SOAK.
func TestSchedulersKilledAtRandomQueueEachTickOnce(t *testing.T) {
	t.Parallel() // it mostly waits
	ticks, every := 8, 1
	if os.Getenv("TASKGEN_SOAK") != "" {
		ticks, every = 60, 5
	}
	f := newFleet(t)
	f.serve(0, "--consume")
	fleet := make([]*process, 5)
	for i := range fleet {
		fleet[i] = f.serve(0, "--schedule")
	}
	read := func() []string {
		ids := []string{}
		b, _ := os.ReadFile(f.ledger)
		for line := range strings.Lines(string(b)) {
			if id, ok := strings.CutPrefix(line, "START tick recorder_tick@"); ok {
				ids = append(ids, strings.Fields(id)[0])
			}
		}
		return ids
	}
	kills := 0
	require.Eventually(t, func() bool {
		n := len(read())
		if n >= (kills+1)*every {
			i := kills % len(fleet)
			fleet[i].end(syscall.SIGKILL)
			fleet[i] = f.serve(0, "--schedule")
			kills++
		}
		return n >= ticks
	}, time.Duration(ticks)*5*time.Second, 20*time.Millisecond)
	var ids []string
	require.Eventually(t, func() bool { // of two that run at once the later may be seen first
		ids = read()
		slices.Sort(ids)
		require.Equal(t, ids, slices.Compact(slices.Clone(ids)), "each tick once")
		first, err := time.Parse(time.RFC3339, ids[0])
		require.NoError(t, err)
		last, err := time.Parse(time.RFC3339, ids[len(ids)-1])
		require.NoError(t, err)
		return last.Sub(first) == time.Duration(len(ids)-1)*time.Second
	}, 20*time.Second, 20*time.Millisecond, "a tick is missing")
	t.Logf("%d ticks, %d schedulers killed", len(ids), kills)
	require.GreaterOrEqual(t, kills, ticks/every-1)
}
