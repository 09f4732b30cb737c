//go:build !windows

package taskapp_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAuditCommand damages a queue by hand and looks at it by the command.
func TestAuditCommand(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	require.Contains(t, f.says("audit"), "queue default, 0 runs: nothing amiss\n")
	f.queue(3)
	for _, damage := range [][]string{
		{"SADD", "taskgen:{default}:inflight", "ghost:1", "ghost:2"},
		{"HSET", "taskgen:{default}:running", "limit", "3"},
	} {
		_, err := f.server.Do(damage...)
		require.NoError(t, err)
	}
	const found = "queue default, 3 runs: found\n"
	require.Equal(t, found+
		"  1 limits whose number of running runs is wrong: not repaired\n"+
		"  2 batches listed as in flight that are not there: not repaired\n", f.says("audit", "--queue", "default", "--dry-run"))
	var views []struct {
		Queue    string
		Runs     int
		Repaired bool
		Findings []struct {
			Name        string
			Count       int
			Fault, Cure string
		}
	}
	f.tells(&views, "audit", "--queue", "default")
	require.Len(t, views, 1)
	require.True(t, views[0].Repaired)
	require.Len(t, views[0].Findings, 2)
	require.Equal(t, "MissingBatches", views[0].Findings[1].Name)
	require.Equal(t, 2, views[0].Findings[1].Count)
	require.Equal(t, "queue default, 3 runs: nothing amiss\n", f.says("audit", "--queue", "default"))
	require.Contains(t, f.refuses(2, "audit", "--queue", "defualt"), `did you mean "default"?`)
	require.Contains(t, f.refuses(2, "audit", "--broker", "memory:"), "embedded broker")
}
