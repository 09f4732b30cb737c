package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Session is a [broker.Session]: one consumer's membership, and its lease on the runs that it
// took. Its methods may be called concurrently, Take by one goroutine at a time.
type Session struct {
	b     *Broker
	id    int64
	lease time.Duration
	left  chan struct{} // closed by Close
	once  sync.Once
}

// receipt is one delivery of a run.
type receipt struct{ session, row, delivery int64 }

// OpenSession opens a session. It returns an error unless the lease is positive.
func (b *Broker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if lease <= 0 {
		return nil, fmt.Errorf("open a session: the lease %v is not positive", lease)
	}
	s := &Session{b: b, lease: lease, left: make(chan struct{})}
	err := b.writer.call(ctx, func(t *tx) error {
		s.id = t.atBack()
		t.exec("INSERT INTO taskgen_sessions VALUES (?, ?)", s.id, t.after(lease))
		return t.err
	})
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	return s, nil
}

// ID returns the session's id. No other session of the file has the same.
func (s *Session) ID() string { return strconv.FormatInt(s.id, 10) }

// Take leases due runs, as [broker.Session] says. After Close it returns an error that wraps
// [broker.ErrLeaseLost].
func (s *Session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	if len(want.Queues) == 0 || want.IO < 1 && want.CPU < 1 {
		return nil, fmt.Errorf("take runs: %w", errNoRoom)
	}
	want.Queues = slices.Clone(want.Queues)
	var got []*broker.TaskRun
	err := s.b.writer.take(ctx, want.Queues, s.left, func(t *tx) error {
		if s.closed() { // Close came first: what is taken now would stay with nobody
			return errLeft
		}
		got = s.lift(t, want)
		return t.orNothing(len(got))
	})
	if err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	return got, nil
}

func (s *Session) closed() bool {
	select {
	case <-s.left:
		return true
	default:
		return false
	}
}

// lift leases runs to the session and renews its lease.
func (s *Session) lift(t *tx, want broker.Want) (got []*broker.TaskRun) {
	room := [2]int{broker.IO: max(want.IO, 0), broker.CPU: max(want.CPU, 0)}
	ahead := [2]int{broker.IO: max(want.PrefetchIO, 0), broker.CPU: max(want.PrefetchCPU, 0)}
	for _, queue := range want.Queues {
		if room == [2]int{} {
			break
		}
		picked := t.pick(queue, t.share(queue, room, ahead))
		inOrder(picked)
		picked = t.decode(queue, picked)
		for _, r := range picked {
			n := t.atBack()
			t.exec("UPDATE taskgen_runs SET state = 2, place = ?1, delivery = ?1, session = ?2, deliveries = deliveries + 1 WHERE id = ?3",
				n, s.id, r.id)
			r.run.Deliveries = r.deliveries + 1
			r.run.Receipt = receipt{session: s.id, row: r.id, delivery: n}
			room[r.run.Kind]--
			got = append(got, r.run)
		}
		t.lengths[queue] -= int64(len(picked))
	}
	if len(got) > 0 {
		s.renew(t)
	}
	return got
}

// share returns how many runs of each kind a session may take of a queue: those for free
// slots, and so many to prefetch that the other sessions can have as many.
func (t *tx) share(queue string, room, ahead [2]int) [2]int {
	if ahead == [2]int{} {
		return room
	}
	sessions := 1
	t.row("SELECT count(*) FROM taskgen_sessions WHERE ends > ?", []any{t.now}, &sessions)
	sessions = max(sessions, 1)
	for kind := range room {
		if ahead[kind] == 0 {
			continue
		}
		most, there := min(room[kind], math.MaxInt/sessions)*sessions, 0
		t.row("SELECT count(*) FROM (SELECT 1 FROM taskgen_runs WHERE state = 1 AND queue = ? AND kind = ? LIMIT ?)",
			[]any{queue, kind, most}, &there)
		room[kind] = max(max(room[kind]-ahead[kind], 0), min(room[kind], (there+sessions-1)/sessions))
	}
	return room
}

// renew extends the lease. It makes the session's row if that was removed after long.
func (s *Session) renew(t *tx) {
	t.exec("INSERT INTO taskgen_sessions VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET ends = excluded.ends", s.id, t.after(s.lease))
}

// Renew extends the lease. After Close, and if runs of the session were recovered that it has
// not tried to finish since, it extends nothing and returns an error that wraps
// [broker.ErrLeaseLost].
func (s *Session) Renew(ctx context.Context) error {
	if s.closed() {
		return fmt.Errorf("renew lease: %w", errLeft)
	}
	err := s.b.writer.call(ctx, func(t *tx) error {
		var lost int
		t.row("SELECT count(*) FROM taskgen_lost WHERE session = ?", []any{s.id}, &lost)
		if lost > 0 && t.err == nil {
			return fmt.Errorf("%d runs of session %d were recovered: %w", lost, s.id, broker.ErrLeaseLost)
		}
		if s.closed() {
			return errLeft
		}
		s.renew(t)
		return t.err
	})
	if err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	return nil
}

// Close gives back the runs that the session holds and ends the session. A blocked Take ends
// too. Closing again does nothing.
func (s *Session) Close(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("close session: %w", err)
	}
	s.once.Do(func() { close(s.left) })
	err := s.b.writer.call(ctx, func(t *tx) error {
		t.giveBack(t.held("SELECT id, queue, delivery FROM taskgen_runs WHERE state = 2 AND session = ? ORDER BY place DESC", s.id), -1)
		t.exec("DELETE FROM taskgen_lost WHERE session = ?", s.id)
		t.exec("DELETE FROM taskgen_sessions WHERE id = ?", s.id)
		return t.err
	})
	if err != nil {
		return fmt.Errorf("close session: %w", err)
	}
	return nil
}

// heldRun is a run in flight.
type heldRun struct {
	row, delivery int64
	queue         string
}

// held reads runs in flight, those taken last first.
func (t *tx) held(text string, args ...any) (runs []heldRun) {
	t.rows(text, args, func(scan func(...any) error) error {
		var r heldRun
		err := scan(&r.row, &r.queue, &r.delivery)
		runs = append(runs, r)
		return err
	})
	return runs
}

// giveBack puts runs in flight at the head of their ready lists, the last one first, and adds
// to their deliveries.
func (t *tx) giveBack(runs []heldRun, deliveries int) {
	for _, r := range runs {
		t.exec(`UPDATE taskgen_runs SET state = 1, place = ?, session = NULL, delivery = NULL, deliveries = max(deliveries + ?, 0)
			WHERE id = ?`, t.atFront(), deliveries, r.row)
		t.lengths[r.queue]++
		t.woken[r.queue] = true
	}
}

// sessionKept is how long the row of a session is kept after its lease has ended, in
// nanoseconds.
const sessionKept = int64(24 * time.Hour)

// Recover gives back the runs of sessions whose lease has ended, as [broker.Leaser] says.
func (b *Broker) Recover(ctx context.Context, queues []string) (broker.Recovered, error) {
	const page = 1000
	var recovered broker.Recovered
	for _, queue := range queues {
		for n := page; n == page; {
			err := b.writer.call(ctx, func(t *tx) error {
				n = t.recover(queue, page)
				return t.err
			})
			if err != nil {
				return recovered, fmt.Errorf("recover runs of queue %s: %w", queue, err)
			}
			recovered.Runs += n
		}
	}
	return recovered, nil
}

// recover gives back a page of a queue's runs whose session's lease has ended, and returns how
// many.
func (t *tx) recover(queue string, page int) int {
	runs := t.held(`SELECT r.id, r.queue, r.delivery FROM taskgen_sessions s
		CROSS JOIN taskgen_runs r ON r.state = 2 AND r.session = s.id AND r.queue = ?
		WHERE s.ends <= ? ORDER BY r.place DESC LIMIT ?`, queue, t.now, page)
	for _, r := range runs {
		t.exec("INSERT INTO taskgen_lost SELECT session, delivery FROM taskgen_runs WHERE id = ?", r.row)
	}
	t.giveBack(runs, 0)
	if len(runs) == 0 {
		var old int64
		if t.row(`SELECT id FROM taskgen_sessions s WHERE ends <= ?
			AND NOT EXISTS (SELECT 1 FROM taskgen_runs WHERE state = 2 AND session = s.id) LIMIT 1`, []any{t.now - sessionKept}, &old) {
			t.exec("DELETE FROM taskgen_lost WHERE session = ?", old)
			t.exec("DELETE FROM taskgen_sessions WHERE id = ?", old)
		}
	}
	return len(runs)
}

// Finish applies each outcome once, as [broker.Session] says.
func (s *Session) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	for i := range outcomes {
		if err := checkOutcome(&outcomes[i]); err != nil {
			return broker.Finished{}, fmt.Errorf("finish run %d of %d: %w", i+1, len(outcomes), err)
		}
	}
	envelopes := make([][]byte, len(outcomes))
	for i := range outcomes {
		if outcomes[i].Verdict != broker.Retry {
			continue
		}
		var err error
		if envelopes[i], err = outcomes[i].Run.MarshalBinary(); err != nil {
			return broker.Finished{}, fmt.Errorf("encode run %s: %w", outcomes[i].Run.ID, err)
		}
	}
	if len(outcomes) == 0 {
		return broker.Finished{}, ctx.Err()
	}
	var done broker.Finished
	err := s.b.writer.call(ctx, func(t *tx) error {
		for i := range outcomes {
			if !s.apply(t, &outcomes[i], envelopes[i]) {
				done.Fenced = append(done.Fenced, outcomes[i].Run)
			}
		}
		return t.err
	})
	if err != nil {
		return broker.Finished{}, fmt.Errorf("finish runs: %w", err)
	}
	return done, nil
}

func checkOutcome(o *broker.Outcome) error {
	switch {
	case o.Run == nil:
		return errors.New("the outcome has no run")
	case o.Verdict < broker.Succeeded || o.Verdict > broker.Retry:
		return fmt.Errorf("run %.64q has the unknown verdict %d", o.Run.ID, o.Verdict)
	case len(o.Next) > 0:
		return fmt.Errorf("run %.64q has follow-ups, which this broker does not queue", o.Run.ID)
	case o.Verdict == broker.Retry && o.Delay < 0:
		return fmt.Errorf("run %.64q has a negative delay", o.Run.ID)
	case o.Verdict == broker.Retry:
		return o.Run.Validate()
	}
	return nil
}

// apply applies an outcome and reports whether the session held the run.
func (s *Session) apply(t *tx, o *broker.Outcome, envelope []byte) bool {
	r, ok := o.Run.Receipt.(receipt)
	if !ok || r.session != s.id {
		return false
	}
	const held = " WHERE id = ? AND state = 2 AND session = ? AND delivery = ? AND queue = ?"
	var applied int64
	if o.Verdict == broker.Retry {
		applied = s.retry(t, o, envelope, r, held)
	} else {
		applied = t.exec("DELETE FROM taskgen_runs"+held, r.row, s.id, r.delivery, o.Run.Queue)
	}
	if applied == 0 {
		t.exec("DELETE FROM taskgen_lost WHERE session = ? AND delivery = ?", s.id, r.delivery)
	}
	return applied > 0
}

// retry stores the run as it is now.
func (s *Session) retry(t *tx, o *broker.Outcome, envelope []byte, r receipt, held string) int64 {
	id := own(o.Run)
	var other int64
	if id != nil && t.row("SELECT id FROM taskgen_runs WHERE queue = ? AND own = ? AND id <> ?", []any{o.Run.Queue, id, r.row}, &other) {
		id = nil // another run has come to have it
	}
	state, place := ready, int64(0)
	if o.Delay > 0 {
		state, place = delayed, t.after(o.Delay)
	} else {
		place = t.atFront()
	}
	applied := t.exec(`UPDATE taskgen_runs SET state = ?, place = ?, kind = ?, rank = ?, own = ?, deliveries = ?, envelope = ?,
		session = NULL, delivery = NULL`+held,
		state, place, int(o.Run.Kind), -int(o.Run.Priority), id, o.Run.Deliveries, envelope, r.row, s.id, r.delivery, o.Run.Queue)
	if applied > 0 {
		t.lengths[o.Run.Queue]++
		t.woken[o.Run.Queue] = true
	}
	return applied
}
