//go:build !windows

package runtime_test

import (
	"testing"

	"github.com/taskgen/taskgen/internal/redistest"
)

// TestRunsReachWhoCanReadThemOnRedis has each consumer on a connection of its
// own, as two processes are.
func TestRunsReachWhoCanReadThemOnRedis(t *testing.T) {
	for name, wrong := range unfitTaskSets() {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it mostly waits
			server := redistest.Start(t)
			reachReader(t, openRedis(t, server), openRedis(t, server), wrong)
		})
	}
}
