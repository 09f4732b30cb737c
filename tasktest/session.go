package tasktest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
)

// session is a session with faults. One with a run whose process died does not close: its
// lease ends.
type session struct {
	*memory.Session
	b     *testBroker
	lease time.Duration

	mu   sync.Mutex
	bad  map[string]*badDelivery // by the run's id
	lost bool
	dead *deadSession
}

// badDelivery is a delivery of which something goes wrong.
type badDelivery struct {
	kind faultKind
	run  broker.TaskRun // as it was taken
}

// deadSession is what a session holds of which the process died.
type deadSession struct {
	ends time.Time // zero until the consumer has ended
	held int64
}

// OpenSession opens a session, as [broker.Leaser] says.
func (b *testBroker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	s, err := b.Broker.OpenSession(ctx, lease)
	if err != nil {
		return nil, err
	}
	return &session{Session: s.(*memory.Session), b: b, lease: lease, bad: map[string]*badDelivery{}}, nil
}

// Take takes runs, as [broker.Session] says.
func (s *session) Take(ctx context.Context, want broker.Want) ([]*broker.TaskRun, error) {
	if err := s.b.outage(); err != nil {
		return nil, fmt.Errorf("take runs: %w", err)
	}
	runs, err := s.Session.Take(ctx, want)
	var good []*broker.TaskRun
	for _, run := range runs {
		kind := s.b.faultOf(run.ID)
		if kind == crashBeforeStart {
			s.die()
			s.b.tell()
			continue
		}
		if kind != none {
			s.mu.Lock()
			s.bad[run.ID] = &badDelivery{kind, *run}
			s.lost = s.lost || kind == loseLease
			s.mu.Unlock()
		}
		good = append(good, run)
	}
	return good, err
}

// die leaves a run to the end of the lease.
func (s *session) die() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.dead == nil {
		s.dead = &deadSession{}
		s.b.dead = append(s.b.dead, s.dead)
	}
	s.dead.held++
}

// Renew renews the lease, as [broker.Session] says.
func (s *session) Renew(ctx context.Context) error {
	if err := s.b.outage(); err != nil {
		return fmt.Errorf("renew a lease: %w", err)
	}
	s.mu.Lock()
	lost := s.lost
	s.mu.Unlock()
	if lost {
		return fmt.Errorf("renew a lease (a fault of tasktest): %w", broker.ErrLeaseLost)
	}
	return s.Session.Renew(ctx)
}

// Close closes the session, unless its process died with runs.
func (s *session) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead == nil {
		return s.Session.Close(ctx)
	}
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	if s.dead.ends.IsZero() {
		s.dead.ends = s.b.now().Add(s.lease)
	}
	return nil
}

// Finish records outcomes, as [broker.Session] says, and notes the runs that follow.
func (s *session) Finish(ctx context.Context, outcomes ...broker.Outcome) (broker.Finished, error) {
	defer s.b.tell()
	if err := s.b.outage(); err != nil {
		return broker.Finished{}, fmt.Errorf("record outcomes: %w", err)
	}
	var fenced []*broker.TaskRun
	var applied []broker.Outcome
	noReply := false
	for _, o := range outcomes {
		bad := s.takeBad(o.Run.ID)
		switch {
		case bad == nil:
			applied = append(applied, o)
		case bad.kind == crashAfterRecord:
			noReply = true
			applied = append(applied, o)
		case bad.kind == deliverAgain:
			applied = append(applied, broker.Outcome{Run: &bad.run, Verdict: broker.Retry})
			fenced = append(fenced, o.Run)
		default:
			s.die()
			fenced = append(fenced, o.Run)
		}
	}
	var finished broker.Finished
	if len(applied) > 0 {
		var err error
		if finished, err = s.Session.Finish(ctx, applied...); err != nil {
			return finished, err
		}
	}
	for _, o := range applied {
		if len(o.Next) > 0 {
			s.b.note(o.Next)
		}
	}
	if noReply {
		return finished, errLost
	}
	finished.Fenced = append(finished.Fenced, fenced...)
	return finished, nil
}

func (s *session) takeBad(id string) *badDelivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := s.bad[id]
	delete(s.bad, id)
	return bad
}
