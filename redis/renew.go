package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Renew extends the leases of what the session holds, in one command a queue. It returns an
// error that wraps [broker.ErrLeaseLost] for queues where something was recovered.
//
// Renew also compares what the server takes the session to hold with what the session knows.
// In a failover or a crash the server may have forgotten the latest outcomes. The session
// applies again those that it remembers, and gives the other runs back.
func (s *session) Renew(ctx context.Context) error {
	leases, failed := s.toRenew()
	renewed := 0
	// All at once: a queue whose node is down must not cost the others their lease.
	for i, err := range s.renewEach(ctx, leases) {
		name := leases[i].q.Name
		if err != nil && failed[name] == nil {
			failed[name] = err
		}
		if failed[name] == nil {
			renewed++
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case renewed > 0 || s.b.clients.Cluster: // the session may hold nothing where it could renew
		return fmt.Errorf("renew: %w", failed)
	case errors.Is(failed, broker.ErrLeaseLost):
		return fmt.Errorf("renew: %w", broker.ErrLeaseLost)
	}
	return fmt.Errorf("renew: %w", errors.Join(failed.Unwrap()...))
}

// toRenew returns the leases to renew, and the errors of the queues where something was
// found recovered since the last call.
func (s *session) toRenew() (leases []*queueLease, failed broker.QueueErrors) {
	failed = broker.QueueErrors{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ql := range s.leases {
		if len(ql.batches) > 0 || s.keptByTakes(ql) {
			leases = append(leases, ql)
		}
		if ql.lost {
			failed[ql.q.Name] = fmt.Errorf("renew in queue %s: %w", ql.q.Name, broker.ErrLeaseLost)
			ql.lost = false
		}
	}
	s.finished.forget(time.Now().Add(-remembered * s.lease))
	return leases, failed
}

// renewEach renews in each queue, and returns each one's error.
func (s *session) renewEach(ctx context.Context, leases []*queueLease) []error {
	if s.b.clients.Cluster && len(leases) > 1 {
		return s.renewOnCluster(ctx, leases)
	}
	errs := make([]error, len(leases))
	each(leases, func(i int, ql *queueLease) { errs[i] = s.renewOne(ctx, ql) })
	return errs
}

// renewOnCluster is renewEach on a cluster. Once some renewals have succeeded it does not wait
// long for the others, which go on in the background.
func (s *session) renewOnCluster(ctx context.Context, leases []*queueLease) []error {
	type end struct {
		i   int
		err error
	}
	errs, ends := make([]error, len(leases)), make(chan end, len(leases))
	for i, ql := range leases {
		errs[i] = fmt.Errorf("renew lease in queue %s: no reply yet", ql.q.Name)
		if !s.b.clients.Spawn(func() { ends <- end{i, s.renewOne(ctx, ql)} }) {
			ends <- end{i, broker.ErrClosed}
		}
	}
	var late <-chan time.Time
	for range leases {
		select {
		case e := <-ends:
			errs[e.i] = e.err
			if e.err == nil && late == nil {
				timer := time.NewTimer(s.lease / 5)
				defer timer.Stop()
				late = timer.C
			}
		case <-late:
			return errs
		}
	}
	return errs
}

// renewOne renews in one queue. Its error is [broker.ErrLeaseLost] if some of it was
// recovered.
func (s *session) renewOne(ctx context.Context, ql *queueLease) error {
	lost, err := s.renewIn(ctx, ql)
	if lost {
		return fmt.Errorf("renew in queue %s: %w", ql.q.Name, broker.ErrLeaseLost)
	}
	return err
}

// renewIn renews in one queue and reports whether some of it was recovered.
func (s *session) renewIn(ctx context.Context, ql *queueLease) (lost bool, err error) {
	s.mu.Lock()
	bad := ql.bad
	ql.bad = nil
	s.mu.Unlock()
	if len(bad) > 0 {
		s.bury(ctx, ql, bad)
	}
	c := s.compare(ql)
	lastRecovered, err := c.ask(ctx)
	if err != nil {
		return false, s.b.fail(ctx, "renew lease in queue "+ql.q.Name, err)
	}
	s.mu.Lock()
	same := lastRecovered == ql.lastRecovered
	s.mu.Unlock()
	if unlisted := c.unlisted(); !same || len(unlisted) > 0 {
		if lost, err = s.findLost(ctx, ql); err != nil {
			return lost, err
		}
		c.relist(ctx, unlisted)
		s.mu.Lock()
		ql.lastRecovered = lastRecovered
		s.mu.Unlock()
	}
	c.replayForgotten(ctx)
	return lost, nil
}

// each does f for all items at the same time, and waits.
func each[T any](items []T, f func(i int, item T)) {
	if len(items) == 1 {
		f(0, items[0])
		return
	}
	var all sync.WaitGroup
	for i, item := range items {
		all.Go(func() { f(i, item) })
	}
	all.Wait()
}

// heldBatch is a batch that a session holds, and its commands when it was read.
type heldBatch struct {
	*batch
	commands int
}

// held returns the batches that the session holds in a queue.
func (s *session) held(ql *queueLease) (batches []heldBatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, bt := range ql.batches {
		batches = append(batches, heldBatch{bt, bt.commands})
	}
	return batches
}

// findLost asks which of the session's batches are still there. It forgets the others, and
// reports whether there are any.
func (s *session) findLost(ctx context.Context, ql *queueLease) (lost bool, err error) {
	batches := s.held(ql)
	exist := make([]conn.Reply[int64], len(batches))
	err = s.b.clients.Lease.Send(ctx, func(pipe conn.Pipeline) {
		for i, bt := range batches {
			exist[i] = pipe.Exists(ctx, ql.q.Batch(bt.name))
		}
	})
	if err != nil {
		return false, s.b.fail(ctx, "find lost batches in queue "+ql.q.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, bt := range batches {
		if exist[i].Val() > 0 || ql.batches[bt.number] != bt.batch || bt.busy > 0 || bt.batch.commands != bt.commands {
			continue // its outcomes say more than that it is not there
		}
		bt.gone = true
		delete(ql.batches, bt.number)
		lost = lost || bt.left > bt.countDoubtful()
	}
	return lost, nil
}

// doubted is how many of the runs that are left may be finished.
func (bt *batch) countDoubtful() int {
	n := 0
	for index := range bt.doubtful {
		if !bt.done[index] {
			n++
		}
	}
	return n
}
