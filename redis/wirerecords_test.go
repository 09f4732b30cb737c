package redis_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

func TestWireRecords(t *testing.T) {
	wireVectors(t, "records.json", func(v *recordVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *recordVector) {
			r := &broker.TaskRun{
				ID: "a", Task: v.Record.Task, Queue: "q", ParentID: v.Record.ParentID, QueuedAt: instant(v.Record.QueuedAt),
				Keep: time.Hour, KeepParams: v.Record.Payload != "", Payload: unhex(t, v.Record.Payload),
			}
			result := unhex(t, v.Record.Result)
			key := prefix(t) + ":{q}:rec:a"
			stored := func() string {
				s, err := c.Get(t.Context(), key).Result()
				require.NoError(t, err)
				return s
			}
			outcome := broker.Outcome{Verdict: broker.Retry, Failure: v.Record.Failure.failure(), Result: result}
			switch v.Record.State {
			case broker.StateDelayed:
				r.Due = time.UnixMilli(v.Record.At)
			case broker.StateSucceeded:
				outcome.Verdict, outcome.Call = broker.Succeeded, &broker.ReturnedCall{Successors: v.Record.successors()}
			case broker.StateFailed:
				outcome.Verdict = broker.Dead
			case broker.StateCancelled:
				outcome.Verdict = broker.Dropped
			}
			now := time.Now().Add(-time.Second)
			switch {
			case v.Record.State == broker.StateRunning:
				s, _ := takeOne(t, b, r)
				require.Eventually(t, func() bool { return stored()[0] == 'r' }, 5*time.Second, 2*time.Millisecond)
				this := broker.ThisHost()
				began := requireTime(t, stored(), now, v.Record.At)
				rest, found := strings.CutPrefix(began[14:], string(byte(len(this)))+this)
				require.True(t, found, "the host that executes it, before the map: %q", began)
				requireBytes(t, &v.Hex, began[:14]+string(byte(len(v.Record.Host)))+v.Record.Host+rest)
				require.NoError(t, s.Close(t.Context()))
			case v.Record.State == broker.StateDelayed, v.Record.State == broker.StateQueued && outcome.Failure == nil:
				require.NoError(t, b.QueueTasks(t.Context(), r))
				requireBytes(t, &v.Hex, stored())
			default:
				var s broker.Session
				s, outcome.Run = takeOne(t, b, r)
				outcome.Run.Attempt, outcome.Run.History = v.Record.Attempt, historyOf(v.Record.History)
				finish(t, s, outcome)
				if v.Record.State.Ended() {
					requireBytes(t, &v.Hex, requireTime(t, stored(), now, v.Record.At))
				} else {
					requireBytes(t, &v.Hex, stored())
				}
			}

			require.NoError(t, c.Set(t.Context(), key, unhex(t, v.Hex), 0).Err())
			got, err := b.Record(t.Context(), "q", "a")
			require.NoError(t, err)
			require.Equal(t, v.Record.record(t), got)
		})
}

// record returns the record of the run a.
func (w *wireRecord) record(t *testing.T) *broker.Record {
	record := &broker.Record{
		ID: "a", Queue: "q", Task: w.Task, ParentID: w.ParentID, State: w.State, Attempt: w.Attempt,
		QueuedAt: instant(w.QueuedAt), Attempts: historyOf(w.History).OrZero().Attempts, Payload: unhex(t, w.Payload),
		Result: unhex(t, w.Result), Failure: w.Failure.failure(), Successors: w.successors(), Host: w.Host,
	}
	at := time.UnixMilli(w.At).UTC()
	switch {
	case w.At == 0:
	case w.State == broker.StateDelayed:
		record.Due = at
	case w.State == broker.StateRunning:
		record.StartedAt = at
	default:
		record.EndedAt = at
	}
	return record
}

// requireTime checks that the time before the map of a record is not earlier than after, and
// returns the record with another one.
func requireTime(t *testing.T, stored string, after time.Time, other int64) string {
	t.Helper()
	require.Regexp(t, `^[a-z]\d{13}`, stored)
	ms, err := strconv.ParseInt(stored[1:14], 10, 64)
	require.NoError(t, err)
	require.WithinRange(t, time.UnixMilli(ms), after, time.Now())
	return stored[:1] + fmt.Sprintf("%013d", other) + stored[14:]
}

func TestWireDeadLetters(t *testing.T) {
	wireVectors(t, "dead.json", func(v *deadVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *deadVector) {
			want := v.Dead.Run.run(t)
			fresh := *want
			fresh.Attempt, fresh.Deliveries = 0, want.Deliveries-1
			s, taken := takeOne(t, b, &fresh)
			taken.Attempt = want.Attempt
			finish(t, s, broker.Outcome{Run: taken, Verdict: broker.Dead, Failure: v.Dead.Failure.failure()})

			key := prefix(t) + ":{q}:dead"
			stored := storedAt(t, c, key)
			require.Len(t, stored, 1)
			require.Regexp(t, `^\d{13}`, stored[0])
			at := strconv.FormatInt(v.Dead.At, 10)
			requireBytes(t, &v.Hex, at+stored[0][len(at):])

			require.NoError(t, c.Del(t.Context(), key).Err())
			require.NoError(t, c.LPush(t.Context(), key, unhex(t, v.Hex)).Err())
			dead, err := b.DeadLetters(t.Context(), "q", 1)
			require.NoError(t, err)
			require.Equal(t, []*broker.DeadLetter{{
				ID: want.ID, Run: want, Failure: *v.Dead.Failure.failure(), At: time.UnixMilli(v.Dead.At).UTC(),
			}}, dead)
		})
}

// TestWireOutbox has a recovery read entries. Each ends in the queue q with one run that is due,
// whose id is "due".
func TestWireOutbox(t *testing.T) {
	wireVectors(t, "outbox.json", func(v *outboxVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *outboxVector) {
			entry := string(unhex(t, v.Hex))
			if v.Run != nil {
				run := v.Run.run(t)
				head := entry[:16] + "\x01\x00\x00\x01\x00\x00\x00\x00" + string(byte(len(run.ID))) + run.ID
				run.ID = ""
				envelope, err := run.AppendBinary([]byte(head))
				require.NoError(t, err)
				requireBytes(t, &v.Hex, string(envelope))
			} else {
				gathering := run("due", "q")
				gathering.EnsureLinks().Awaits = broker.Group{ID: "g", Queue: "q", Size: 1}
				member := run("member", "q")
				member.EnsureLinks().Group = "g"
				require.NoError(t, b.QueueGroup(t.Context(), gathering, member))
				require.Equal(t, "member", takeAll(t, join(t, b, time.Minute), "q", 1)[0].ID)
			}
			require.NoError(t, c.RPush(t.Context(), prefix(t)+":{other}:outbox", unhex(t, v.Hex)).Err())
			for range 3 { // a group in another one is moved by the second
				_, err := b.Recover(t.Context(), []string{"other", "q"})
				require.NoError(t, err)
			}
			require.Zero(t, c.LLen(t.Context(), prefix(t)+":{other}:outbox").Val(), "entries that stay")
			require.Equal(t, "due", takeAll(t, join(t, b, time.Minute), "q", 1)[0].ID)
		})
}
