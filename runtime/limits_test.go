package runtime_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// stored is a run as a producer of another kind stores it, past every client.
func stored(task string, payload []byte) *broker.TaskRun {
	return &broker.TaskRun{ID: "foreign-" + task, Task: task, Queue: "default", QueuedAt: time.Now(), Payload: payload, Keep: time.Hour}
}

// TestPayloadsBeyondTheLimit checks that a run beyond the limit becomes a dead letter
// undecoded, with a text that names the limit, and that a run at the limit executes.
func TestPayloadsBeyondTheLimit(t *testing.T) {
	const limit = 1 << 20
	payload := func(size int) []byte {
		b := codec.AppendString([]byte{0x81}, "note")
		return codec.AppendString(b, string(bytes.Repeat([]byte("x"), size-len(b)-5)))
	}
	for _, test := range []struct {
		name string
		size int
		cfg  taskrt.ConsumerConfig
		want string
	}{
		{"at the limit", limit, taskrt.ConsumerConfig{}, ""},
		{"one more", limit + 1, taskrt.ConsumerConfig{}, "the parameters take 1048577 bytes, at most 1048576 are decoded; ConsumerConfig.Codec.Payload sets the limit"},
		{"far more", 64 << 20, taskrt.ConsumerConfig{}, "the parameters take 67108864 bytes"},
		{"as its tasks may queue", 2 * limit, taskrt.ConsumerConfig{MaxPayload: 2 * limit}, ""},
		{"as configured", limit, taskrt.ConsumerConfig{Codec: taskrt.CodecLimits{Payload: 1000}}, "at most 1000 are decoded"},
		{"memory", limit, taskrt.ConsumerConfig{Codec: taskrt.CodecLimits{Memory: limit}}, "takes more than 1048576 bytes of memory, the limit for what is decoded; ConsumerConfig.Codec.Memory sets it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := memory.New()
			run := stored("recorder_record", payload(test.size))
			require.NoError(t, b.QueueTasks(t.Context(), run))
			consume(t, b, test.cfg, tasks.Tasks(new(journal).recorder(nil)))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			record, err := b.WaitRecord(ctx, run.Queue, run.ID)
			require.NoError(t, err)
			if test.want == "" {
				require.Equal(t, broker.StateSucceeded, record.State, record.Failure)
				return
			}
			require.Equal(t, broker.StateFailed, record.State)
			require.Equal(t, taskrt.Schema, record.Failure.Kind)
			require.Contains(t, record.Failure.Message, test.want)
		})
	}
	for _, limits := range []taskrt.CodecLimits{{Payload: -1}, {Memory: -1}} {
		_, err := taskrt.NewConsumer(memory.New(), taskrt.ConsumerConfig{Codec: limits}, tasks.Tasks(nil))
		require.ErrorContains(t, err, "field Codec: field ")
	}
}
