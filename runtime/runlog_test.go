package runtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// largeRecords counts records of a mebibyte, and logs the others.
type largeRecords struct {
	slog.Handler
	n *atomic.Int64
}

func (h largeRecords) Handle(ctx context.Context, rec slog.Record) error {
	if len(rec.Message) < 1<<20 {
		return h.Handler.Handle(ctx, rec)
	}
	h.n.Add(1)
	return nil
}

func (h largeRecords) WithAttrs(attrs []slog.Attr) slog.Handler {
	return largeRecords{h.Handler.WithAttrs(attrs), h.n}
}

func TestWhatAnIoRunLogsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var log syncBuffer
		kept := largeRecords{slog.NewTextHandler(&log, nil), new(atomic.Int64)}
		large := strings.Repeat("x", 1<<20)
		consume(t, b, taskrt.ConsumerConfig{Logger: slog.New(kept)}, tasks.Tasks(&tasks.Recorder{Do: func(ctx context.Context, _ *taskrt.Run, _ string) error {
			for range 20 {
				taskrt.Logger(ctx).Info(large)
			}
			taskrt.Logger(ctx).Info("small", "more", 1)
			return nil
		}}))
		ctx := clientContext(context.Background(), b)
		for n := range int64(2) {
			handle, err := tasks.QueueRecorderRecord(ctx, "x")
			require.NoError(t, err)
			synctest.Wait()
			require.Equal(t, 15*(n+1), kept.n.Load(), "each run has its own")
			require.Regexp(t, fmt.Sprintf(`level=WARN msg="the run logged more records than are kept" run=%s task=recorder_record records_cut=6 bytes_cut=524\d{4}`, handle.ID), log.String())
		}
		require.NotContains(t, log.String(), "msg=small")
	})
}
