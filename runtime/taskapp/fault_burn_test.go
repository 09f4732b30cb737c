//go:build !windows

package taskapp_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestTasksThatBurnProcessorsCostNoLease has io tasks use the only processor of
// their consumer, beside another consumer that would start them again. What else the
// machine does may cost the consumer a lease, but not each time.
func TestTasksThatBurnProcessorsCostNoLease(t *testing.T) {
	type load struct {
		name, lease string
		concurrency int
		hold        time.Duration
	}
	loads := []load{{"more than the default concurrency, a short lease", "2s", 16, 6 * time.Second}}
	if os.Getenv("TASKGEN_SOAK") == "1" {
		loads = append(loads, load{"50 a processor", "10s", 50, 25 * time.Second}, load{"longer", "1s", 10, 20 * time.Second})
	}
	for _, c := range loads {
		t.Run(c.name, func(t *testing.T) {
			for try := 1; ; try++ {
				kept := false
				t.Run(fmt.Sprint(try), func(t *testing.T) { kept = burn(t, c.concurrency, c.lease, c.hold) })
				if kept || t.Failed() {
					return
				}
				require.Less(t, try, 4, "tries")
			}
		})
	}
}

// burn reports whether all runs ended where they started, and no lease was lost.
func burn(t *testing.T, concurrency int, lease string, hold time.Duration) bool {
	f := newFleet(t)
	f.env = []string{"GOMAXPROCS=1"}
	params := make([]tasks.RecorderMailParams, concurrency)
	for i := range params {
		params[i].To = fmt.Sprint("burn", i)
	}
	_, err := tasks.QueueRecorderMailBatch(f.ctx, params, taskrt.OnQueue("default"))
	require.NoError(t, err)
	burning := f.serve(hold, "--concurrency", fmt.Sprint(concurrency), "--consume", "--lease", lease)
	require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == concurrency }, 30*time.Second, 10*time.Millisecond)
	f.serve(0, "--concurrency", "1", "--consume", "--lease", lease)
	f.drained(concurrency, time.Minute)
	starts, _ := f.counts()
	t.Logf("%d starts of %d runs; the consumer's log:\n%s", total(starts), concurrency, burning.log.String())
	return total(starts) == concurrency && !strings.Contains(burning.log.String(), "lease lost")
}
