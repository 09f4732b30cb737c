package wire_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// TestPendingRunHasWhatItTakesToEndIt and not the parameters, or what follows.
func TestPendingRunHasWhatItTakesToEndIt(t *testing.T) {
	run := &broker.TaskRun{
		ID: "a", Task: "task", Queue: "q", OwnID: true, Keep: time.Hour, ParentID: "parent",
		Payload: []byte("secret"), Headers: map[string]string{"k": "v"}, Rules: &broker.Rules{Unique: "key"},
		Links: &broker.Links{
			Group: "outer", GroupQueue: "h", Member: 3, Awaits: broker.Group{ID: "g", Queue: "other", Size: 2},
			Then: []broker.FollowUp{{Run: &broker.TaskRun{ID: "next", Task: "task", Queue: "q"}}},
		},
	}
	value, err := wire.AppendPendingRun(nil, "0123456789abcdef", run)
	require.NoError(t, err)
	p, ok := wire.ParsePendingRun(string(value))
	require.True(t, ok)
	require.Equal(t, []string{"0123456789abcdef", "other", "g"}, []string{p.Token, p.Queue, p.Group})
	got := new(broker.TaskRun)
	require.NoError(t, wire.ParseRun(new(broker.Decoder), []byte(p.Stored), got))
	require.Equal(t, run.ID, got.ID)
	require.Equal(t, []any{true, time.Hour, "parent", "key"}, []any{got.OwnID, got.Keep, got.ParentID, got.Rules.Unique})
	require.Equal(t, []any{"outer", "h", 3}, []any{got.Links.Group, got.Links.GroupQueue, got.Links.Member})
	require.Empty(t, got.Payload)
	require.Empty(t, got.Headers)
	require.Empty(t, got.Links.Then)
	require.Len(t, run.Links.Then, 1, "the run itself stays whole")
	for i := range len(value) - len(p.Stored) {
		_, ok := wire.ParsePendingRun(string(value[:i]))
		require.False(t, ok, i)
	}
}

// TestGatheredIsReadWithAnythingBehindIt since the failure of a cancelled run is put there.
func TestGatheredIsReadWithAnythingBehindIt(t *testing.T) {
	entry := string(wire.AppendGathered(nil, "queue", "group"))
	for _, behind := range []string{"", "x", "\xff\xff"} {
		queue, group, err := wire.ParseGathered(entry + behind)
		require.NoError(t, err)
		require.Equal(t, []string{"queue", "group"}, []string{queue, group})
	}
	for i := range len(entry) {
		_, _, err := wire.ParseGathered(entry[:i])
		require.Error(t, err, i)
	}
}
