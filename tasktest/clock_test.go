package tasktest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/tasktest"
)

func TestTheClockOfAKitMovesWithoutABubble(t *testing.T) {
	q := newKit(t, tasktest.AllowFailures())
	began := q.Now()
	var at []time.Duration
	brief := tasktest.Of[tasks.RecorderBriefParams, taskrt.None](q, "recorder_brief")
	brief.Does(func(_ context.Context, p *tasks.RecorderBriefParams) (taskrt.None, error) {
		at = append(at, time.Since(began).Round(time.Minute))
		if p.Note == "fails" {
			return taskrt.None{}, errors.New("told to fail")
		}
		return taskrt.None{}, nil
	})
	_, err := tasks.QueueRecorderBrief(q.Context(), "later", taskrt.Delay(time.Hour))
	require.NoError(t, err)
	q.Drain(t)
	require.Empty(t, at)
	q.Advance(t, 24*time.Hour)
	require.Equal(t, []time.Duration{time.Hour}, at)

	_, err = tasks.QueueRecorderBrief(q.Context(), "now")
	require.NoError(t, err)
	q.Drain(t)
	require.Equal(t, []time.Duration{time.Hour, 24 * time.Hour}, at, "it has not expired")

	_, err = tasks.QueueRecorderBrief(q.Context(), "fails")
	require.NoError(t, err)
	q.Advance(t, time.Hour)
	require.Len(t, at, 6, "four attempts")
	require.WithinDuration(t, began.Add(25*time.Hour), q.Now(), time.Minute)
}

func TestExpiryAndTicksComeWithoutABubble(t *testing.T) {
	q := tasktest.New(t, tasks.Tasks(&tasks.Recorder{}))
	h, err := tasks.QueueRecorderBrief(q.Context(), "late", taskrt.Keep(240*time.Hour))
	require.NoError(t, err)
	q.Down(t, 61*time.Minute)
	q.Advance(t, 62*time.Minute)
	require.NotEmpty(t, tasktest.Of[tasks.RecorderHourlyParams, taskrt.None](q, "recorder_hourly").Runs(t))
	_, err = h.Wait(q.Context())
	var failed *taskrt.RunError
	require.ErrorAs(t, err, &failed)
	require.Equal(t, taskrt.Expired, failed.Kind)
}
