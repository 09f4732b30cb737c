// Package memory is the embedded broker: it keeps runs in the memory of its process,
// and loses them when the process ends. Within the process it delivers at least once.
//
// It has every interface of package broker. It starts no goroutine, and copies what it
// is given and what it returns.
package memory

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// DefaultMaxDead is how many dead letters a queue keeps by default.
const DefaultMaxDead = 10_000

// Config configures a [Broker]. The zero value works.
type Config struct {
	// MaxDead is how many dead letters each queue keeps; beyond it the oldest
	// is trimmed and counted. Defaults to DefaultMaxDead.
	MaxDead int
	// Now is the clock, for tests that move it. With it the broker sets no timers: a blocked
	// call gets what has become due once another call of the queue, such as Runs, finds it.
	// Defaults to time.Now.
	Now func() time.Time
}

// Broker is the embedded broker. Its methods may be called concurrently; one
// mutex guards it, which no call holds while it waits.
type Broker struct {
	maxDead int
	timers  bool // it sets the alarm
	time    func() time.Time
	start   time.Time
	done    chan struct{} // closed by Close

	mu     sync.Mutex
	closed bool
	queues map[string]*queue
	seq    int64 // of the last run that was delayed
	alarm  alarm
	expiry expiryHeap

	program   program
	instances map[string]announced // by id; nil until there is one
	tallies   tallies

	skipped []broker.SkippedDuplicate // by the Finish in hand
}

// New returns an empty broker with the defaults of [Config].
func New() *Broker { return NewConfig(Config{}) }

// NewConfig returns an empty broker.
func NewConfig(cfg Config) *Broker {
	if cfg.MaxDead <= 0 {
		cfg.MaxDead = DefaultMaxDead
	}
	timers := cfg.Now == nil
	if timers {
		cfg.Now = time.Now
	}
	return &Broker{
		maxDead: cfg.MaxDead,
		timers:  timers,
		time:    cfg.Now,
		start:   cfg.Now(),
		done:    make(chan struct{}),
		queues:  make(map[string]*queue),
	}
}

// Close drops all runs and records. Blocked calls and later ones return
// [broker.ErrClosed]. Close returns nil, also when it is repeated.
func (b *Broker) Close() error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		close(b.done)
		for _, q := range b.queues {
			for k := range q.waiters {
				for q.waiters[k].head != nil {
					q.waiters[k].head.w.wake()
				}
			}
		}
		b.queues, b.expiry, b.instances, b.tallies = nil, nil, nil, tallies{}
		b.alarm.stop()
	}
	b.mu.Unlock()
	b.alarm.rings.Wait()
	return nil
}

// enter locks the broker for a call, unless ctx has ended or the broker is closed. The
// caller unlocks if enter returned no error.
func (b *Broker) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return broker.ErrClosed
	}
	return nil
}

// QueueTasks stores copies of the runs, all of them or none. It returns an
// error that wraps [broker.ErrDuplicate] for a run with OwnID or Keep that has
// the id of a live one with OwnID or Keep, and else a [broker.DuplicateError]
// that names every run whose Unique is taken.
func (b *Broker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if len(runs) == 0 {
		return nil
	}
	if err := validate(runs); err != nil {
		return err
	}
	chunks := copyIn(runs)
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	defer b.mu.Unlock()
	return b.store(chunks, len(runs), b.now())
}

func (b *Broker) store(chunks [][]storedRun, n int, now clock) error {
	b.expire(now, n)
	q := b.queue(chunks[0][0].run.Queue)
	if err := q.claim(chunks, now); err != nil {
		return err
	}
	q.used = true
	for _, chunk := range chunks {
		for i := range chunk {
			b.place(q, &chunk[i], now)
		}
	}
	b.wake(q, now)
	return nil
}

// validate does the checks that need no lock.
func validate(runs []*broker.TaskRun) error {
	for i, r := range runs {
		if r == nil {
			return fmt.Errorf("queue run %d of %d: it is nil", i+1, len(runs))
		}
		if err := r.Validate(); err != nil {
			return fmt.Errorf("queue run %.64q: %w", r.ID, err)
		}
		if r.Links != nil && len(r.Links.Members) > 0 {
			return fmt.Errorf("queue run %s: it has the members of its group with it, which QueueGroup queues", r.ID)
		}
		if r.Queue != runs[0].Queue {
			return fmt.Errorf("queue run %s: its queue %s is not %s, that of the others in the call", r.ID, r.Queue, runs[0].Queue)
		}
	}
	if err := broker.CheckBatch(runs); err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	return nil
}

// place puts a run that was just stored where it belongs.
func (b *Broker) place(q *queue, e *storedRun, now clock) {
	e.setDue(now.due(&e.run))
	if now.until(e.due()) > 0 {
		b.delay(q, e)
	} else {
		q.pushBack(e)
	}
}

func (b *Broker) delay(q *queue, e *storedRun) {
	b.seq++
	e.order = b.seq
	q.delayed.push(e)
}

// queue returns the queue of that name. It makes one if there is none.
func (b *Broker) queue(name string) *queue {
	q := b.queues[name]
	if q == nil {
		q = newQueue()
		q.program = b.program.limits
		b.queues[name] = q
	}
	return q
}

var errNoRoom = errors.New("no queue is named, or there is no room for a run")

// GetTaskRuns takes runs for good: the broker forgets them and their records. A
// consumer that opens a session instead, see [Broker.OpenSession], loses no runs if it
// dies. GetTaskRuns returns an error if no queue is named or max is below 1.
func (b *Broker) GetTaskRuns(ctx context.Context, queues []string, max int) ([]*broker.TaskRun, error) {
	var got []*broker.TaskRun
	want := room{kind: [2]int{max, max}, total: max}
	err := b.await(ctx, queues, want, nil, func(now clock) bool {
		got = b.takeForGood(queues, want, now)
		return len(got) > 0
	})
	if err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	return got, nil
}

func (b *Broker) takeForGood(queues []string, want room, now clock) []*broker.TaskRun {
	picked := b.pick(queues, want, nil, now)
	runs := make([]broker.TaskRun, len(picked))
	out := make([]*broker.TaskRun, len(picked))
	for i, e := range picked {
		runs[i] = e.run // handed over, so not copied
		runs[i].Deliveries++
		out[i] = &runs[i]
		if e.rare != nil && e.rare.group != nil {
			rec := e.record(broker.StateFailed)
			rec.Failure, rec.EndedAt = &errTaken, fromWall(now.wall)
			b.endMember(e.rare.group, e.rare.member, rec, now)
		}
		b.queues[e.run.Queue].forget(e, nil)
	}
	return out
}

// pick removes due runs of the queues, as many as there is room for.
func (b *Broker) pick(queues []string, want room, s *Session, now clock) []*storedRun {
	var picked []*storedRun
	for _, name := range queues {
		q := b.queues[name]
		if q == nil {
			continue
		}
		q.promote(now)
		if q.paused {
			continue
		}
		if n := min(want.total, q.ready[broker.IO]+q.ready[broker.CPU]); picked == nil && n > 0 {
			picked = make([]*storedRun, 0, n)
		}
		share := q.share(want, s)
		kept := room{total: want.total - share.total}
		for k := range want.kind {
			kept.kind[k] = want.kind[k] - share.kind[k]
		}
		for e := q.pop(&share, s != nil, now); e != nil; e = q.pop(&share, s != nil, now) {
			picked = append(picked, e)
		}
		want = share.plus(kept)
	}
	return picked
}

// QueueLength returns the number of runs that wait in each queue that was ever used.
func (b *Broker) QueueLength(ctx context.Context) (map[string]int64, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read queue lengths: %w", err)
	}
	defer b.mu.Unlock()
	lengths := make(map[string]int64, len(b.queues))
	for name, q := range b.queues {
		if q.used {
			lengths[name] = int64(q.waits())
		}
	}
	return lengths, nil
}

// clock is one reading of both clocks in nanoseconds. Delays, leases and records use
// mono, which never jumps; instants use wall.
type clock struct{ mono, wall int64 }

func (b *Broker) now() clock {
	now := b.time()
	return clock{mono: int64(now.Sub(b.start)), wall: now.UnixNano()}
}

// after returns the instant d from now, or the last representable instant if d is beyond it.
func (c clock) after(d time.Duration) instant { return instant{at: c.mono}.plus(d) }

// due returns when a run that is queued now is due.
func (c clock) due(r *broker.TaskRun) instant {
	if r.Delay == 0 && !r.Due.IsZero() {
		return instant{wall: true, at: r.Due.UnixNano()}
	}
	return c.after(r.Delay)
}

// instant is a reading of one of the clocks.
type instant struct {
	at   int64
	wall bool
}

// plus returns the instant d later, or the last representable instant if d is beyond it.
func (i instant) plus(d time.Duration) instant {
	i.at += min(int64(d), math.MaxInt64-i.at)
	return i
}

// fromWall returns a time of the wall clock.
func fromWall(at int64) time.Time { return time.Unix(0, at).UTC() }

// until returns the nanoseconds from now to the instant, 0 or less if it has passed.
func (c clock) until(i instant) int64 {
	if i.wall {
		return i.at - c.wall
	}
	return i.at - c.mono
}
