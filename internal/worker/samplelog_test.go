package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// logBuffer holds what timers log while the test reads.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// take returns what was written since the last call.
func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

func TestRepeatedLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(logBuffer)
		l := &sampledLogger{logger: slog.New(slog.NewTextHandler(out, nil))}
		say := func(task string, n int) {
			for range n {
				l.Log(slog.LevelWarn, "odd run", &broker.TaskRun{ID: "id", Task: task})
			}
		}
		lines := func() []string {
			synctest.Wait()
			return strings.Split(strings.TrimSpace(out.take()), "\n")
		}
		l.Start()
		say("a", 3)
		say("b", 1)
		require.Len(t, lines(), 2, "the first of each task")
		time.Sleep(sampleEvery) // of synctest
		got := lines()
		require.Len(t, got, 1)
		require.Contains(t, got[0], "task=a more_runs=2 last=id")
		time.Sleep(2 * sampleEvery)
		say("a", 2)
		require.Len(t, lines(), 1, "after a pause the first is logged again")
		l.Stop()
		require.Contains(t, lines()[0], "more_runs=1")
		say("a", 2)
		require.Len(t, lines(), 2, "nothing is counted once it is stopped")
	})
}
