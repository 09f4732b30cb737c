//go:build !windows

package runtime_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestTasksThatBurnProcessorsCostNoLease has io tasks use the only processor of
// their consumer, beside another consumer that would start them again.
func TestTasksThatBurnProcessorsCostNoLease(t *testing.T) {
	t.Parallel()
	type load struct {
		name, lease string
		concurrency int
		hold        time.Duration
	}
	loads := []load{{"more than the default concurrency, a short lease", "1s", 16, 4 * time.Second}}
	if os.Getenv("TASKGEN_SOAK") == "1" {
		loads = append(loads, load{"50 a processor", "10s", 50, 25 * time.Second}, load{"longer", "1s", 10, 20 * time.Second})
	}
	for _, c := range loads {
		t.Run(c.name, func(t *testing.T) {
			f := newFleet(t)
			f.env = []string{"GOMAXPROCS=1"}
			params := make([]tasks.RecorderMailParams, c.concurrency)
			for i := range params {
				params[i].To = fmt.Sprint("burn", i)
			}
			_, err := tasks.QueueRecorderMailBatch(f.ctx, params, taskrt.OnQueue("default"))
			require.NoError(t, err)
			burning := f.serve(c.hold, "--concurrency", fmt.Sprint(c.concurrency), "--consume", "--lease", c.lease)
			require.Eventually(t, func() bool { starts, _ := f.counts(); return len(starts) == c.concurrency }, 30*time.Second, 10*time.Millisecond)
			f.serve(0, "--concurrency", "1", "--consume", "--lease", c.lease)
			f.drained(c.concurrency, time.Minute)
			starts, _ := f.counts()
			assert.Equal(t, c.concurrency, total(starts), "starts")
			assert.NotContains(t, burning.log.String(), "lease lost")
			if t.Failed() || testing.Verbose() {
				t.Log(burning.log.String())
			}
		})
	}
}
