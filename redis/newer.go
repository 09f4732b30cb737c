package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A run whose header can be read, and whose envelope a newer version wrote, is left to a
// consumer of that version. It goes back as it is, with a delay that grows, and after an
// hour becomes a dead letter. The time to live of a key says since when.
const (
	newerPatience = time.Hour         // then it becomes a dead letter
	newerKept     = 2 * newerPatience // the key
)

// unread is an entry of a batch that cannot be read.
type unread struct {
	at     *receipt
	stored []byte
	run    *broker.TaskRun // as far as it was read, nil: not at all
	why    error
}

// endUnread makes dead letters of entries that cannot be read. It leaves to others those
// that a newer version can read.
func (s *session) endUnread(ctx context.Context, ql *queueLease, entries []unread) {
	var ids []string
	for _, e := range entries {
		if id, ok := wire.NewerID(e.stored, e.why); ok {
			ids = append(ids, id)
		}
	}
	// After an error each counts as seen for the first time.
	ages, _ := s.b.newerFor(ctx, ql.q, ids)
	outcomes := make([]*outcome, len(entries))
	for i, e := range entries {
		outcomes[i] = s.endUnreadOne(ql, e, ages)
	}
	s.bury(ctx, ql, outcomes)
}

// endUnreadOne makes the outcome of one entry that cannot be read. ages are how long the runs
// of newer versions have been left to others.
func (s *session) endUnreadOne(ql *queueLease, e unread, ages map[string]time.Duration) *outcome {
	why := e.why
	if id, newer := wire.NewerID(e.stored, e.why); newer {
		if age := ages[id]; age < newerPatience {
			delay := leaveFor(age)
			s.noteHandedBack(ql, delay) // before the script, whose effect a take may see before its reply
			return leaveNewer(e.at, ql.q, e.stored, delay)
		}
		why = nobodyCame(e.why)
	}
	s.b.reportUnread(ql.q, e, why)
	return unreadable(e.at, ql.q, e.stored, why)
}

// reportUnread has consumers log that an entry becomes a dead letter.
func (b *Broker) reportUnread(q *queue, e unread, why error) {
	run := &broker.TaskRun{ID: wire.RawID(e.stored), Queue: q.Name}
	if e.run != nil {
		run.Task = e.run.Task
	}
	if h, err := wire.ParseHeader(e.stored); err == nil {
		run.ID = string(h.ID)
	}
	b.damage.add(maintenance.Damage{Queue: q.Name, Run: run, Why: why.Error()})
}

func nobodyCame(why error) error {
	return fmt.Errorf("no consumer that can read it came within %v: %w; %s", newerPatience, why, wire.Upgrade)
}

// newerFor returns for how long the runs with these ids have been left to newer versions,
// 0 if they were not seen before.
func (b *Broker) newerFor(ctx context.Context, q *queue, ids []string) (map[string]time.Duration, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := b.clients.Work.Pipeline()
	left := make([]interface{ Val() time.Duration }, len(ids))
	for i, id := range ids {
		pipe.SetNX(ctx, q.Newer(id), "", newerKept)
		left[i] = pipe.PTTL(ctx, q.Newer(id))
	}
	if err := b.clients.ReadAll(ctx, pipe); err != nil {
		return nil, err
	}
	ages := make(map[string]time.Duration, len(ids))
	for i, id := range ids {
		if ttl := left[i].Val(); ttl > 0 {
			ages[id] = newerKept - ttl
		}
	}
	return ages, nil
}

// leaveFor is how long a run is delayed that has been left to others for so long. Soon it
// may come to a consumer that can read it; later such a consumer has to start first.
func leaveFor(age time.Duration) time.Duration {
	most := min(max(age, 400*time.Millisecond), 10*time.Second)
	return most/2 + rand.N(most/2)
}

// leaveNewer makes an outcome that puts a stored run back as it is, or ends it if it was
// cancelled.
func leaveNewer(at *receipt, q *queue, stored []byte, delay time.Duration) *outcome {
	out := &outcome{at: at}
	h, err := wire.ParseHeader(stored)
	if err != nil {
		return unreadable(at, q, stored, err)
	}
	var end outcome
	end.byHeader(q, h, stored, wire.OpenRecord(wire.StartRecordAt(nil, broker.StateFailed, time.Now()), new(broker.TaskRun)))
	end.recordAsOperation()
	out.add(script.OpIfCancelled, q.Cancels(at.session.id), wire.CancelField(at.batch.number, at.index), len(end.operations))
	out.operations += end.operations
	out.keys, out.args = append(out.keys, end.keys...), append(out.args, end.args...)
	if h.Flags&wire.FlagWaits != 0 {
		out.add(script.OpReleaseLimits, "")
	}
	list := int(stored[2])*3 + 3 - int(stored[3])
	out.add(script.OpDelay, "", wire.Millis(delay), list, stored)
	out.add(script.OpWake, "", list)
	return out
}

// bury applies outcomes of entries that cannot be read. The next renewal tries again what
// fails.
func (s *session) bury(ctx context.Context, ql *queueLease, bad []*outcome) {
	call := &finishCall{outcomes: bad}
	if err := ql.finish.do(ctx, s.b.clients, call, 0); err == nil && call.err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	ql.bad = append(ql.bad, bad...)
}
