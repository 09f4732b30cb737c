package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func TestRepeatedLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := &sampledLogger{logger: slog.New(slog.NewTextHandler(&out, nil))}
		say := func(task string, n int) {
			for range n {
				l.Log(slog.LevelWarn, "odd run", &broker.TaskRun{ID: "id", Task: task})
			}
		}
		lines := func() []string {
			synctest.Wait()
			defer out.Reset()
			return strings.Split(strings.TrimSpace(out.String()), "\n")
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
