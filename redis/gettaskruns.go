package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// fetcherLease is how long a run can be on its way to a caller of GetTaskRuns.
const fetcherLease = time.Minute

// fetchers are the sessions behind GetTaskRuns. Each call has one to itself, so that a
// batch whose reply was lost stays with its session.
type fetchers struct {
	mu        sync.Mutex
	free      map[string][]*fetcher // by the queues they take from
	returning bool
	inHand    chan struct{} // closed when returnOrphaned has put back its fetcher; nil: it has none
	closed    bool
}

type fetcher struct {
	*session
	// taken, and not known to be forgotten by the server
	pending []*broker.TaskRun
	takenAt time.Time // when the take returned
}

// GetTaskRuns takes up to max due runs, at most 1,000, and forgets them at once: they are
// delivered at most once. It blocks until there is a run. Of equal priority, runs of kind
// IO come before those of kind CPU; within a kind the order of queueing holds. Unique
// keys, limits and Fair apply, but a limit on concurrent runs counts these only until
// they are returned. If the process dies while runs are on their way to the caller,
// [Broker.Recover] gives them back a minute later.
func (b *Broker) GetTaskRuns(ctx context.Context, queues []string, max int) ([]*broker.TaskRun, error) {
	if b.clients.IsClosed() {
		return nil, fmt.Errorf("get task runs: %w", broker.ErrClosed)
	}
	id := strings.Join(queues, " ")
	f, err := b.fetchers.get(b, id)
	if err != nil {
		return nil, fmt.Errorf("get task runs: %w", err)
	}
	n := min(max, maxTake)
	for {
		if err := f.fill(ctx, queues, n); err != nil {
			b.fetchers.put(f, id)
			return nil, fmt.Errorf("get task runs: %w", err)
		}
		runs, err := f.handOver(ctx, id, n)
		if errors.Is(err, errGone) {
			return nil, fmt.Errorf("get task runs: %w", ctx.Err())
		}
		if err != nil || len(runs) > 0 {
			b.fetchers.put(f, id)
		}
		if err != nil {
			return nil, fmt.Errorf("get task runs: %w", err)
		}
		if len(runs) > 0 {
			return runs, nil
		}
	}
}

// fill takes runs unless the fetcher has some from an earlier call.
func (f *fetcher) fill(ctx context.Context, queues []string, n int) (err error) {
	if len(f.pending) == 0 {
		f.pending, err = f.take(ctx, queues, room{io: n, cpu: n, total: n})
		f.takenAt = time.Now()
	}
	return err
}

// handOver forgets the runs that were taken and returns them. The runs are taken, so a context that ends
// must not lose them: a goroutine goes on, puts them back and returns the fetcher. Then the
// error is errGone.
func (f *fetcher) handOver(ctx context.Context, id string, n int) ([]*broker.TaskRun, error) {
	b, over := f.b, &handover{done: make(chan struct{})}
	started := b.clients.Spawn(func() {
		runs, err := f.forgetTaken(context.WithoutCancel(ctx), n)
		if !over.deliver(runs, err) {
			b.putBack(runs)
			b.fetchers.put(f, id)
		}
	})
	if !started {
		return nil, broker.ErrClosed
	}
	return over.await(ctx)
}

// forgetTaken forgets up to max of the runs that were taken, and returns those that nobody
// else got. The rest, of an earlier call that wanted more, is given back.
func (f *fetcher) forgetTaken(ctx context.Context, max int) ([]*broker.TaskRun, error) {
	runs := f.pending[:min(max, len(f.pending))]
	calls, err := f.forgetCalls(runs)
	if err != nil {
		return nil, err
	}
	lost, failed, err := f.sendForget(ctx, calls)
	if err != nil {
		return nil, err
	}
	rest := len(f.pending) - len(runs)
	f.pending = nil
	if rest > 0 {
		for ql := range calls {
			_ = f.closeIn(ctx, ql) // after an error the end of the lease gives them back
		}
	}
	got := make([]*broker.TaskRun, 0, len(runs))
	for _, run := range runs {
		if !lost[run] {
			run.Receipt = nil
			got = append(got, run)
		}
	}
	if len(got) > 0 {
		failed = nil
	}
	return got, failed
}

// forgetCalls makes a call for each queue of the pending runs, with the outcomes of those
// that are to be forgotten.
func (f *fetcher) forgetCalls(runs []*broker.TaskRun) (map[*queueLease]*finishCall, error) {
	calls := map[*queueLease]*finishCall{}
	for i, run := range f.pending {
		at, ok := run.Receipt.(*receipt)
		if !ok {
			return nil, errors.New("a run without receipt")
		}
		ql := at.batch.lease
		if calls[ql] == nil {
			calls[ql] = &finishCall{lease: ql}
		}
		if i < len(runs) {
			calls[ql].outcomes = append(calls[ql].outcomes, forget(run, at))
		}
	}
	return calls, nil
}

// sendForget sends the calls. It returns the runs that the caller must not get, and why some
// of them could not be forgotten. Those stay held, so that they keep no others back.
func (f *fetcher) sendForget(ctx context.Context, calls map[*queueLease]*finishCall) (lost map[*broker.TaskRun]bool, failed, err error) {
	lost = map[*broker.TaskRun]bool{}
	for ql, call := range calls {
		if err := ql.finish.do(ctx, f.b.clients, call, 0); err != nil {
			return nil, nil, err
		}
		if call.err != nil && len(call.failed) == 0 {
			return nil, nil, call.err
		}
		failed = errors.Join(failed, call.err)
		for _, run := range slices.Concat(call.failed, call.fenced) {
			lost[run] = true
		}
		for _, run := range call.doubtful {
			// While the lease lasts, nobody else can have finished it.
			lost[run] = time.Since(f.takenAt) > fetcherLease/2
		}
	}
	return lost, failed, nil
}

// errTaken is how a member of a group ends that GetTaskRuns took.
var errTaken = broker.Failure{Kind: broker.FailureFailed, Message: "the run was taken for good, so that it is not known how it ended"}

// forget makes the outcome of a run that nobody will finish.
func forget(run *broker.TaskRun, at *receipt) *outcome {
	out, q := &outcome{run: run, at: at}, at.batch.lease.q
	out.freeHeld(q, run)
	if run.Links.OrZero().Group != "" {
		out.endMemberOf(q, run, failedRecord(wire.AsMember(run), &errTaken))
	}
	if awaits := run.Links.OrZero().Awaits; awaits.ID != "" && awaits.Queue == q.Name {
		out.add(script.OpKeepGroup, q.Group(awaits.ID), broker.GroupKept.Milliseconds()) // for who has taken it
	}
	if run.Keep > 0 {
		out.endRecord(q, run.ID, run.Keep, wire.AppendRecord(wire.StartRecordAt(nil, broker.StateRunning, time.Now()), run, nil))
	}
	return out
}

func (ts *fetchers) get(b *Broker, id string) (*fetcher, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if free := ts.free[id]; len(free) > 0 {
		for i, f := range free {
			if f.unfinished() {
				free[i], free[len(free)-1] = free[len(free)-1], f
				break
			}
		}
		f := free[len(free)-1]
		ts.free[id] = free[:len(free)-1]
		return f, nil
	}
	s, err := b.openSession(fetcherLease)
	if err != nil {
		return nil, err
	}
	s.shortLived = true
	return &fetcher{session: s}, nil
}

// unfinished reports whether the fetcher may hold runs.
func (f *fetcher) unfinished() bool { return len(f.pending) > 0 || len(f.unansweredQueues()) > 0 }

func (ts *fetchers) put(f *fetcher, id string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	set(&ts.free, id, append(ts.free[id], f))
	if !ts.returning && f.orphaned() {
		ts.returning = f.b.clients.Spawn(func() { ts.returnOrphaned(f.b) })
	}
}

// orphaned reports whether the fetcher may hold runs that no caller will ask for.
func (f *fetcher) orphaned() bool { return len(f.pending) == 0 && len(f.unansweredQueues()) > 0 }

// returnOrphaned has orphaned fetchers give back their runs, until there are none. Others
// wait for these runs, and perhaps no later call here finds them.
func (ts *fetchers) returnOrphaned(b *Broker) {
	var wait conn.Backoff
	for {
		f, id := ts.takeOrphaned()
		if f == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), b.cfg.Timeout)
		err := f.giveBackUnanswered(ctx)
		cancel()
		ts.mu.Lock()
		close(ts.inHand)
		ts.inHand = nil
		ts.mu.Unlock()
		ts.put(f, id) // a call may take the fetcher meanwhile
		if err == nil {
			wait = conn.Backoff{}
		} else {
			wait.Sleep(context.Background(), b.clients)
		}
	}
}

// takeOrphaned returns an orphaned fetcher, nil if there is none.
func (ts *fetchers) takeOrphaned() (*fetcher, string) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for id, free := range ts.free {
		for i, f := range free {
			if !ts.closed && !f.b.clients.IsClosed() && f.orphaned() {
				ts.free[id] = slices.Delete(free, i, i+1)
				ts.inHand = make(chan struct{})
				return f, id
			}
		}
	}
	ts.returning = false
	return nil, ""
}

func (f *fetcher) giveBackUnanswered(ctx context.Context) error {
	for _, q := range f.unansweredQueues() {
		if err := f.closeIn(ctx, f.leaseIn(q)); err != nil {
			return err
		}
	}
	return nil
}

// longestLeave bounds how long Close takes when the server does not answer.
const longestLeave = time.Second

// close gives back the runs that fetchers hold and no caller got.
func (ts *fetchers) close(timeout time.Duration) {
	ts.mu.Lock()
	free, inHand := ts.free, ts.inHand
	ts.free, ts.closed = nil, true
	ts.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), min(timeout, longestLeave))
	defer cancel()
	for _, list := range free {
		for _, f := range list {
			_ = f.Close(ctx) // after an error the end of the lease gives it back
		}
	}
	if inHand != nil {
		select {
		case <-inHand:
		case <-ctx.Done():
		}
	}
}

// putBack queues runs again that were taken for a caller that is gone. After an error they
// are lost, as at-most-once delivery allows.
func (b *Broker) putBack(runs []*broker.TaskRun) {
	queues := map[string][]*broker.TaskRun{}
	for _, run := range runs {
		run.Deliveries--
		if run.Delay > 0 {
			run.Delay, run.Due = 0, time.Now()
		}
		queues[run.Queue] = append(queues[run.Queue], run)
	}
	for _, list := range queues {
		_ = b.QueueTasks(context.Background(), list...)
	}
}

// handover hands runs to a caller that may be gone.
type handover struct {
	mu   sync.Mutex
	done chan struct{}
	gone bool
	runs []*broker.TaskRun
	err  error
}

var errGone = errors.New("the caller is gone")

// deliver hands over the runs. It reports false if the caller is gone.
func (s *handover) deliver(runs []*broker.TaskRun, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs, s.err = runs, err
	close(s.done)
	return !s.gone
}

// await returns what was delivered, or errGone a little after ctx has ended.
func (s *handover) await(ctx context.Context) ([]*broker.TaskRun, error) {
	select {
	case <-s.done:
		return s.runs, s.err
	case <-ctx.Done():
	}
	timer := time.NewTimer(conn.Grace)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return s.runs, s.err
	default:
		s.gone = true
		return nil, errGone
	}
}
