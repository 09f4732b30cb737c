package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

func TestHistoryAdd(t *testing.T) {
	var h *broker.History
	require.Empty(t, h.OrZero().Attempts)
	require.Nil(t, h.Clone())
	var before []*broker.History
	for i := range 2 * broker.MaxHistory {
		h = h.Add(broker.Attempt{Host: fmt.Sprint(i)})
		before = append(before, h)
	}
	for i, h := range before { // none was changed by what came later
		attempts := h.Attempts
		require.Len(t, attempts, min(i+1, broker.MaxHistory))
		for j, a := range attempts {
			require.Equal(t, fmt.Sprint(i+1-len(attempts)+j), a.Host, "attempt %d of the history after %d", j, i+1)
		}
	}

	h = h.Add(broker.Attempt{
		Started: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Took: -time.Second,
		Host: strings.Repeat("é", 1000), Kind: broker.FailureKind(strings.Repeat("k", 1000)), Message: "a\xff" + strings.Repeat("日", 1000),
	})
	run := broker.TaskRun{ID: "i", Task: "t", Queue: "q", History: h}
	require.NoError(t, run.Validate(), "a run with what Add has cut")
	a := h.Attempts[broker.MaxHistory-1]
	require.Zero(t, a.Started)
	require.Zero(t, a.Took)
	require.Len(t, a.Host, broker.MaxHost)
	require.Equal(t, "a?日", a.Message[:len("a?日")])
	require.True(t, utf8.ValidString(a.Message))
	require.InDelta(t, broker.MaxAttemptMessage, len(a.Message), utf8.UTFMax)
}

// TestHistoryIsCutAsItIsRead reads histories that are longer than this version writes.
func TestHistoryIsCutAsItIsRead(t *testing.T) {
	const n = 1000
	b := []byte("\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha")
	b = codec.AppendArrayLen(b, 5*n)
	for i := range n {
		b = codec.AppendInt(codec.AppendInt(b, int64(i+1)), -1)
		b = codec.AppendString(codec.AppendString(codec.AppendString(b, strings.Repeat("h", n)), strings.Repeat("k", n)), strings.Repeat("m", n))
	}
	var r broker.TaskRun
	require.NoError(t, r.UnmarshalBinary(b))
	require.Len(t, r.History.Attempts, broker.MaxHistory)
	for i, a := range r.History.Attempts {
		require.EqualValues(t, n-broker.MaxHistory+i+1, a.Started.UnixNano(), "start of attempt %d", i)
		require.Zero(t, a.Took)
		require.Len(t, a.Host, broker.MaxHost)
		require.Len(t, string(a.Kind), 32)
		require.Len(t, a.Message, broker.MaxAttemptMessage)
	}

	require.NoError(t, r.UnmarshalBinary([]byte("\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa2ha\x90")))
	require.Nil(t, r.History, "a history without attempts")
}

func TestHistoryCountsInABatch(t *testing.T) {
	r := &broker.TaskRun{ID: "i", Task: "t", Queue: "q", Payload: make([]byte, broker.MaxBatch)}
	require.NoError(t, broker.CheckBatch([]*broker.TaskRun{r}))
	r.History = r.History.Add(broker.Attempt{Host: "h"})
	require.ErrorIs(t, broker.CheckBatch([]*broker.TaskRun{r}), broker.ErrBatchTooLarge)
}
