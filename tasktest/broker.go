package tasktest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// testBroker is the embedded broker with a list of what was queued, and with faults.
type testBroker struct {
	*memory.Broker

	mu         sync.Mutex
	queued     []*broker.TaskRun
	loseReply  int
	downUntil  time.Time
	crashes    int
	loseLeases int
	dead       []*deadSession
}

// deadSession is the session of a consumer that died with a run.
type deadSession struct {
	ends time.Time
	held int64
}

var errLost = errors.New("the connection ended before the reply came (a fault of tasktest)")
var errDown = errors.New("the broker is down (a fault of tasktest)")

// fault returns the error of a call while the broker is down.
func (b *testBroker) fault() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Now().Before(b.downUntil) {
		return errDown
	}
	return nil
}

// stored notes runs that the broker has, and returns the error of a lost reply.
func (b *testBroker) stored(runs []*broker.TaskRun) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, run := range runs {
		copied := *run
		copied.Payload = slices.Clone(run.Payload)
		b.queued = append(b.queued, &copied)
	}
	if b.loseReply > 0 {
		b.loseReply--
		return errLost
	}
	return nil
}

// of returns the runs of a task that were queued, in order.
func (b *testBroker) of(task string) []*broker.TaskRun {
	b.mu.Lock()
	defer b.mu.Unlock()
	var runs []*broker.TaskRun
	for _, run := range b.queued {
		if run.Task == task {
			runs = append(runs, run)
		}
	}
	return runs
}

// heldByDead returns how many runs the sessions of dead consumers hold.
func (b *testBroker) heldByDead() (held int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dead = slices.DeleteFunc(b.dead, func(d *deadSession) bool { return !time.Now().Before(d.ends) })
	for _, d := range b.dead {
		held += d.held
	}
	return held
}

// QueueTasks queues runs, as [broker.Broker] says.
func (b *testBroker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := b.fault(); err != nil {
		return fmt.Errorf("queue runs: %w", err)
	}
	if err := b.Broker.QueueTasks(ctx, runs...); err != nil {
		return err
	}
	return b.stored(runs)
}

// QueueGroup queues the members of a group, as [broker.Groups] says.
func (b *testBroker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	if err := b.fault(); err != nil {
		return fmt.Errorf("queue a group: %w", err)
	}
	if err := b.Broker.QueueGroup(ctx, then, members...); err != nil {
		return err
	}
	return b.stored(members)
}

// QueueTick queues the run of a tick, as [broker.Ticks] says.
func (b *testBroker) QueueTick(ctx context.Context, run *broker.TaskRun, tick time.Time) error {
	if err := b.fault(); err != nil {
		return fmt.Errorf("queue a tick: %w", err)
	}
	if err := b.Broker.QueueTick(ctx, run, tick); err != nil {
		return err
	}
	return b.stored([]*broker.TaskRun{run})
}

// OpenSession opens a session, as [broker.Leaser] says.
func (b *testBroker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := b.Broker.OpenSession(ctx, lease)
	if err != nil {
		return nil, err
	}
	return &session{Session: s.(*memory.Session), b: b, lease: lease}, nil
}

// session is a session with faults.
type session struct {
	*memory.Session
	b     *testBroker
	lease time.Duration
}

// Take takes runs, as [broker.Session] says. For a crash another session takes one, and
// nobody gets it; if a lease is to be lost, the consumer gets that of another session.
func (s *session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	if err := s.b.fault(); err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	s.b.mu.Lock()
	crash, lose := s.b.crashes > 0, s.b.loseLeases > 0
	s.b.mu.Unlock()
	if !crash && !lose {
		return s.Session.Take(ctx, want)
	}
	other, err := s.b.Broker.OpenSession(ctx, s.lease)
	if err != nil {
		return nil, err
	}
	if want.IO > 0 {
		want.IO, want.PrefetchIO = 1, 0
	}
	want.CPU, want.PrefetchCPU = min(want.CPU, 1), 0
	runs, err := other.Take(ctx, want)
	if err != nil {
		return nil, err
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.dead = append(s.b.dead, &deadSession{ends: time.Now().Add(s.lease), held: int64(len(runs))})
	if crash {
		s.b.crashes--
		return nil, nil
	}
	s.b.loseLeases--
	return runs, nil
}

// Renew renews the lease, as [broker.Session] says.
func (s *session) Renew(ctx context.Context) error {
	if err := s.b.fault(); err != nil {
		return fmt.Errorf("renew a lease: %w", err)
	}
	return s.Session.Renew(ctx)
}

// Finish records outcomes, as [broker.Session] says, and notes the runs that follow.
func (s *session) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	if err := s.b.fault(); err != nil {
		return broker.Finished{}, fmt.Errorf("record outcomes: %w", err)
	}
	finished, err := s.Session.Finish(ctx, outcomes...)
	if err != nil {
		return finished, err
	}
	for _, o := range outcomes {
		if len(o.Next) > 0 {
			s.b.note(o.Next)
		}
	}
	return finished, nil
}

// note notes runs that follow others.
func (b *testBroker) note(runs []*broker.TaskRun) {
	b.mu.Lock()
	lose := b.loseReply
	b.loseReply = 0
	b.mu.Unlock()
	_ = b.stored(runs) // no reply is to be lost
	b.mu.Lock()
	b.loseReply += lose
	b.mu.Unlock()
}
