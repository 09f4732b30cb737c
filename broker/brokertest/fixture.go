package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
)

// Times the suite works with. They are for real brokers on slow machines: a
// broker that keeps its promises never gets near patience or endurance.
const (
	patience  = 20 * time.Second       // to wait for an event that has no deadline
	endurance = 2 * time.Minute        // for working through hundreds or thousands of runs
	prompt    = time.Second            // to wait for an event that needs no polling
	quiet     = 150 * time.Millisecond // for which nothing must happen
	slack     = 20 * time.Millisecond  // between the broker's clock and the test's
	shortHold = 400 * time.Millisecond // a lease that is meant to end
	longHold  = time.Minute            // a lease that is not
	aLot      = 1000                   // room for more runs than are there
	theTask   = "brokertest"
)

// fixture is one broker under test, with helpers for the checks.
type fixture struct {
	*testing.T
	b      broker.Broker
	lastID atomic.Int64
}

func newFixture(t *testing.T, b broker.Broker) *fixture { return &fixture{T: t, b: b} }

func (f *fixture) leaser() broker.Leaser     { return f.b.(broker.Leaser) }
func (f *fixture) records() broker.Records   { return f.b.(broker.Records) }
func (f *fixture) ticks() broker.Ticks       { return f.b.(broker.Ticks) }
func (f *fixture) groups() broker.Groups     { return f.b.(broker.Groups) }
func (f *fixture) controls() broker.Controls { return f.b.(broker.Controls) }

// keeps reports whether the broker keeps policies.
func (f *fixture) keeps(p broker.PolicySet) bool { return keeps(p)(f.b) }

// needs skips the check of a broker without policies that it needs besides.
func (f *fixture) needs(p broker.PolicySet, what string) {
	f.Helper()
	if !f.keeps(p) {
		f.Skip("the broker does not keep " + what)
	}
}

// ctx returns a context for one call that must come to an end.
func (f *fixture) ctx() context.Context { return f.within(patience) }

func (f *fixture) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(f.Context(), d)
	f.Cleanup(cancel)
	return ctx
}

// ended returns a context that has ended.
func (f *fixture) ended() context.Context {
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	return ctx
}

// newRun makes a run that is not yet queued, with an id of its own.
func (f *fixture) newRun(queue string, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	r := &broker.TaskRun{
		ID:       fmt.Sprintf("run-%06d", f.lastID.Add(1)),
		Task:     theTask,
		Queue:    queue,
		QueuedAt: time.Now(),
		Payload:  []byte{0x80},
	}
	for _, edit := range edits {
		edit(r)
	}
	return r
}

func (f *fixture) newRuns(queue string, n int, edits ...func(*broker.TaskRun)) []*broker.TaskRun {
	runs := make([]*broker.TaskRun, n)
	for i := range runs {
		runs[i] = f.newRun(queue, edits...)
	}
	return runs
}

// Edits of a new run.
func ownID(id string) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) { r.ID, r.OwnID = id, true }
}
func keep(d time.Duration) func(*broker.TaskRun)  { return func(r *broker.TaskRun) { r.Keep = d } }
func delay(d time.Duration) func(*broker.TaskRun) { return func(r *broker.TaskRun) { r.Delay = d } }
func kind(k broker.Kind) func(*broker.TaskRun)    { return func(r *broker.TaskRun) { r.Kind = k } }
func priority(p broker.Priority) func(*broker.TaskRun) {
	return func(r *broker.TaskRun) { r.Priority = p }
}

func (f *fixture) queue(runs ...*broker.TaskRun) {
	f.Helper()
	require.NoError(f, f.b.QueueTasks(f.ctx(), runs...), "QueueTasks of %d runs", len(runs))
}

// queueNew makes n runs and queues them in one call.
func (f *fixture) queueNew(queue string, n int, edits ...func(*broker.TaskRun)) []*broker.TaskRun {
	f.Helper()
	runs := f.newRuns(queue, n, edits...)
	f.queue(runs...)
	return runs
}

// get takes exactly n runs by GetTaskRuns, in as many calls as the broker needs.
func (f *fixture) get(n int, queues ...string) []*broker.TaskRun {
	f.Helper()
	var got []*broker.TaskRun
	for ctx := f.ctx(); len(got) < n; {
		runs, err := f.b.GetTaskRuns(ctx, queues, n-len(got))
		require.NoError(f, err, "GetTaskRuns of %v after %d of %d runs", queues, len(got), n)
		require.NotEmpty(f, runs, "GetTaskRuns of %v returned neither runs nor an error", queues)
		require.LessOrEqual(f, len(runs), n-len(got), "GetTaskRuns of %v returned more than max", queues)
		got = append(got, runs...)
	}
	return got
}

// nothing checks that no run of the queues can be taken now or soon.
func (f *fixture) nothing(queues ...string) {
	f.Helper()
	runs, err := f.b.GetTaskRuns(f.within(quiet), queues, aLot)
	require.ErrorIs(f, err, context.DeadlineExceeded, "GetTaskRuns of %v with nothing due; it returned %v", queues, ids(runs))
	require.Empty(f, ids(runs), "GetTaskRuns of %v returned an error and runs", queues)
}

func (f *fixture) length(queue string) int {
	f.Helper()
	n, err := f.b.QueueLength(f.ctx())
	require.NoError(f, err, "QueueLength")
	return int(n[queue])
}

func (f *fixture) openSession(lease time.Duration) broker.Session {
	f.Helper()
	s, err := f.leaser().OpenSession(f.ctx(), lease)
	require.NoError(f, err, "OpenSession")
	require.NotEmpty(f, s.ID(), "session's ID")
	return s
}

// anyOf is a want with room for n runs of each kind.
func anyOf(n int, queues ...string) broker.Want {
	return broker.Want{Queues: queues, IO: n, CPU: n}
}

// take leases exactly n runs, in as many calls as the broker needs.
func (f *fixture) take(s broker.Session, n int, queues ...string) []*broker.TaskRun {
	f.Helper()
	var got []*broker.TaskRun
	for ctx := f.ctx(); len(got) < n; {
		room := n - len(got)
		runs, err := s.Take(ctx, anyOf(room, queues...))
		require.NoError(f, err, "Take of %v after %d of %d runs", queues, len(got), n)
		require.NotEmpty(f, runs, "Take of %v returned neither runs nor an error", queues)
		got = append(got, runs...)
	}
	require.Len(f, got, n, "runs taken of %v", queues)
	return got
}

// begin calls Begin for runs, if the session has it.
func (f *fixture) begin(s broker.Session, held bool, runs ...*broker.TaskRun) {
	f.Helper()
	tracker, ok := s.(poison.Tracker)
	if !ok {
		return
	}
	for _, r := range runs {
		got, err := tracker.Begin(f.ctx(), r)
		require.NoError(f, err, "Begin of run %s", r.ID)
		require.Equal(f, held, got, "whether the session holds run %s at its begin", r.ID)
	}
}

// takesNothing checks that the session can take none now or soon.
func (f *fixture) takesNothing(s broker.Session, queues ...string) {
	f.Helper()
	runs, err := s.Take(f.within(quiet), anyOf(aLot, queues...))
	require.ErrorIs(f, err, context.DeadlineExceeded, "Take of %v with nothing due; it returned %v", queues, ids(runs))
}

// finish applies outcomes that must all count.
func (f *fixture) finish(s broker.Session, outcomes ...broker.Outcome) {
	f.Helper()
	done, err := s.Finish(f.ctx(), outcomes...)
	require.NoError(f, err, "Finish")
	require.Empty(f, ids(done.Fenced), "fenced runs that the session holds")
}

// finishFenced applies outcomes that must all be refused.
func (f *fixture) finishFenced(s broker.Session, outcomes ...broker.Outcome) {
	f.Helper()
	done, err := s.Finish(f.ctx(), outcomes...)
	require.NoError(f, err, "Finish of runs that the session does not hold")
	want := make([]string, len(outcomes))
	for i, o := range outcomes {
		want[i] = o.Run.ID
	}
	require.ElementsMatch(f, want, ids(done.Fenced), "fenced runs that the session does not hold")
}

// recover gives back the runs of leases that have ended.
func (f *fixture) recover(queues ...string) broker.Recovered {
	f.Helper()
	recovered, err := f.leaser().Recover(f.ctx(), queues)
	require.NoError(f, err, "Recover")
	return recovered
}

// lapse waits until n runs of leases that ended were given back.
func (f *fixture) lapse(n int, queues ...string) {
	f.Helper()
	got := 0
	f.eventually(func() bool {
		got += f.recover(queues...).Runs
		return got >= n
	}, "Recover gives %d runs back", n)
	require.Equal(f, n, got, "runs that Recover gave back")
}

// eventually asks again, ten milliseconds apart, until the condition holds.
func (f *fixture) eventually(condition func() bool, format string, args ...any) {
	f.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !condition() {
		select {
		case <-again.C:
		case <-deadline.C:
			require.Failf(f, "it did not happen", "waited %v until "+format, append([]any{patience}, args...)...)
		}
	}
}

// pass waits for a time. It is for promises about time itself, and for when no public
// method shows that another goroutine blocks.
func (f *fixture) pass(d time.Duration) {
	f.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.Context().Done():
		require.NoError(f, f.Context().Err(), "test ended")
	}
}

// each runs fn in n goroutines, waits for all and checks that none erred.
// fn must not end the test.
func (f *fixture) each(n int, fn func(i int) error) {
	f.Helper()
	require.NoError(f, f.start(n, fn)())
}

// start runs fn in n goroutines; the function it returns waits for them and
// returns their errors.
func (f *fixture) start(n int, fn func(i int) error) (wait func() error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = fn(i) })
	}
	return func() error {
		wg.Wait()
		return errors.Join(errs...)
	}
}

// ids lists the runs for comparison and for messages.
func ids(runs []*broker.TaskRun) []string {
	var list []string
	for _, r := range runs {
		list = append(list, r.ID)
	}
	return list
}

func byID(runs []*broker.TaskRun) map[string]*broker.TaskRun {
	all := make(map[string]*broker.TaskRun, len(runs))
	for _, r := range runs {
		all[r.ID] = r
	}
	return all
}

func deliveries(runs []*broker.TaskRun) []int {
	var list []int
	for _, r := range runs {
		list = append(list, r.Deliveries)
	}
	return list
}

// requireSame checks that got is want in everything a broker stores. Instants
// are compared as such, and nil is as good as empty. Deliveries is the
// broker's own and compared where a check is about it.
func (f *fixture) requireSame(want, got *broker.TaskRun, what string) {
	f.Helper()
	require.Equal(f, stored(want), stored(got), "%s: run %s", what, want.ID)
}

func stored(r *broker.TaskRun) broker.TaskRun {
	c := *r
	c.Receipt, c.Deliveries = nil, 0
	c.QueuedAt, c.Due = c.QueuedAt.Round(0).UTC(), c.Due.Round(0).UTC()
	if len(c.Payload) == 0 {
		c.Payload = nil
	}
	if len(c.Headers) == 0 {
		c.Headers = nil
	}
	rules, links := c.Rules.OrZero(), c.Links.OrZero()
	if len(rules.Limits) == 0 {
		rules.Limits = nil
	}
	links.Then = cloneThen(links.Then)
	for i := range links.Then {
		next := stored(links.Then[i].Run)
		links.Then[i].Run = &next
	}
	links.Members = slices.Clone(links.Members)
	for i, m := range links.Members {
		member := stored(m)
		links.Members[i] = &member
	}
	history := c.History.Clone().OrZero()
	for i, a := range history.Attempts {
		history.Attempts[i].Started = a.Started.Round(0).UTC()
	}
	c.Rules, c.Links, c.History = &rules, &links, &history // nil is as good as the zero value
	return c
}

// tally counts how often each id was seen, from many goroutines.
type tally struct {
	mu   sync.Mutex
	seen map[string]int
}

func (c *tally) add(runs ...*broker.TaskRun) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[string]int)
	}
	for _, r := range runs {
		c.seen[r.ID]++
	}
}

func (c *tally) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.seen)
}

func (c *tally) count(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen[id]
}

// requireOnce checks that each of the runs was seen once, and no other.
func (f *fixture) requireOnce(c *tally, runs []*broker.TaskRun, what string) {
	f.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing, repeated, strange []string
	known := make(map[string]bool, len(runs))
	for _, r := range runs {
		known[r.ID] = true
		switch n := c.seen[r.ID]; {
		case n == 0:
			missing = append(missing, r.ID)
		case n > 1:
			repeated = append(repeated, r.ID)
		}
	}
	for id := range c.seen {
		if !known[id] {
			strange = append(strange, id)
		}
	}
	require.Truef(f, len(missing)+len(repeated)+len(strange) == 0,
		"%s: of %d runs %d are missing %v, %d repeated %v, %d never queued %v",
		what, len(runs), len(missing), firstTen(missing), len(repeated), firstTen(repeated), len(strange), firstTen(strange))
}

// firstTen returns as many ids as a message can show.
func firstTen(ids []string) []string { return ids[:min(len(ids), 10)] }
