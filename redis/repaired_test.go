package redis_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestRecordsOfLiveRunsWhileSessionsLeave reads the record of a run that this process's
// sessions hold, while others of them come and go.
func TestRecordsOfLiveRunsWhileSessionsLeave(t *testing.T) {
	b := open(t, shared, redis.Config{})
	for id, queue := range map[string]string{"running": "q", "handed-on": "other"} {
		r := run(id, queue)
		r.Keep = time.Hour
		require.NoError(t, b.QueueTasks(t.Context(), r))
	}
	_, err := join(t, b, time.Minute).Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1})
	require.NoError(t, err)
	ctx := within(t, 20*time.Second)
	asked := make(chan error, 1)
	go func() {
		for range 300 {
			record, err := b.Record(ctx, "q", "running")
			if err == nil && record.State != broker.StateRunning {
				err = fmt.Errorf("the run is %s, not running", record.State)
			}
			if err != nil {
				asked <- err
				return
			}
		}
		asked <- nil
	}()
	for range 300 {
		s, err := b.OpenSession(ctx, time.Minute)
		require.NoError(t, err)
		got, err := s.Take(ctx, broker.Want{Queues: []string{"other"}, IO: 1})
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.NoError(t, s.Close(ctx))
	}
	select {
	case err := <-asked:
		require.NoError(t, err)
	case <-ctx.Done():
		t.Fatal("Record hangs beside sessions that leave")
	}
}

// restricted is a broker whose user may not use some commands.
func restricted(t *testing.T, commands ...string) *redis.Broker {
	t.Helper()
	server := redistest.Start(t)
	args := []any{"ACL", "SETUSER", "few", "on", ">secret", "~*", "&*", "+@all"}
	for _, c := range commands {
		args = append(args, "-"+c)
	}
	require.NoError(t, raw(t, server).Do(t.Context(), args...).Err())
	return openURL(t, "redis://few:secret@"+server.Addr(), redis.Config{})
}

func TestRunsStoredWithoutATransactionAreNotRefused(t *testing.T) {
	b := restricted(t, "multi")
	kept := run("kept", "q")
	kept.Keep = time.Hour
	err := b.QueueTasks(t.Context(), kept)
	lengths, lengthErr := b.QueueLength(t.Context())
	require.NoError(t, lengthErr)
	require.Equal(t, err == nil, lengths["q"] == 1, "error %v with %d runs stored", err, lengths["q"])
}

func TestATakeThatMayNotWaitSaysSo(t *testing.T) {
	b := restricted(t, "bzmpop")
	_, err := join(t, b, time.Minute).Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 1})
	require.ErrorContains(t, err, "NOPERM")
}

// TestARunThatWaitsForItsRetryIsNotRunning has the run fail at about the time when the
// runs of its batch are noted as running.
func TestARunThatWaitsForItsRetryIsNotRunning(t *testing.T) {
	b := open(t, shared, redis.Config{})
	s := join(t, b, time.Minute)
	var waiting []string
	requireDelayed := func(id string) {
		t.Helper()
		record, err := b.Record(context.WithoutCancel(t.Context()), "q", id)
		require.NoError(t, err)
		require.Equal(t, broker.StateDelayed, record.State, "run %s", id)
	}
	for i := range 30 {
		list := runs("q", 2)
		for j, r := range list {
			r.ID, r.Keep = r.ID+string(rune('a'+i)), time.Hour
			require.NoError(t, b.QueueTasks(t.Context(), list[j]))
		}
		got, err := s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 2})
		require.NoError(t, err)
		timer := time.NewTimer(9*time.Millisecond + time.Duration(i)*100*time.Microsecond)
		<-timer.C
		_, err = s.Finish(t.Context(), broker.Outcome{Run: got[0], Verdict: broker.Retry, Delay: time.Hour})
		require.NoError(t, err)
		requireDelayed(got[0].ID)
		waiting = append(waiting, got[0].ID)
		for _, r := range got[1:] {
			_, err = s.Finish(t.Context(), broker.Outcome{Run: r})
			require.NoError(t, err)
		}
	}
	for _, id := range waiting { // runs that were noted late
		requireDelayed(id)
	}
}

// sparing fails scripts that check more pages of a hash than one step of the server
// should.
const sparing = `local redis = (function(server)
  local pages = 0
  return setmetatable({
    call = function(command, ...)
      if command == 'HSCAN' then
        pages = pages + 1
        if pages > 5 then
          error('too many pages')
        end
      end
      return server.call(command, ...)
    end,
  }, {__index = server})
end)(redis)`

// TestLargeHashesAreRepairedInSteps: the server serves nobody else during a step.
func TestLargeHashesAreRepairedInSteps(t *testing.T) {
	t.Parallel()
	b, client := open(t, shared, redis.Config{}), raw(t, shared)
	b.Instrument(sparing)
	fields := map[string]any{"back": "x"}
	for i := range 20_000 {
		fields[fmt.Sprint("line-", i)] = "of turns"
	}
	require.NoError(t, client.HSet(t.Context(), prefix(t)+":{q}:policy", fields).Err())
	limited := run("limited", "q")
	limited.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1}}
	require.NoError(t, b.QueueTasks(t.Context(), limited))
	require.Len(t, b.Damaged(), 1)
}
