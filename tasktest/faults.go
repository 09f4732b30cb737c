package tasktest

import (
	"testing"
	"time"
)

// AnyRun is a run of any task, as [Task.Queued] and [Task.Runs] return it. In its place nil
// stands for the next run that is taken.
type AnyRun interface{ id() string }

func (r *Run[P]) id() string { return r.ID }

// Step is where in a run's life its process dies.
type Step int

// The steps of [Kit.Crash].
const (
	BeforeStart  Step = iota // the run was taken, and the task's function is not called
	BeforeRecord             // the function has returned, and nobody hears of it
	AfterRecord              // the broker has recorded the end, and its reply reaches nobody
)

// Crash has the process that takes the run die, by default before it starts the run. Unless
// that is AfterRecord, the run starts again once the lease has ended, after 10 seconds: see
// [Kit.Advance]. Crashing again and again makes it a dead letter, as in production.
func (k *Kit) Crash(t testing.TB, run AnyRun, at ...Step) {
	t.Helper()
	step := BeforeStart
	switch {
	case len(at) > 1:
		t.Fatalf("tasktest: Crash has %d steps, and a process dies once: name one", len(at))
	case len(at) == 1:
		step = at[0]
	}
	kind, known := map[Step]faultKind{BeforeStart: crashBeforeStart, BeforeRecord: crashBeforeRecord, AfterRecord: crashAfterRecord}[step]
	if !known {
		t.Fatalf("tasktest: Crash at step %d: there is BeforeStart, BeforeRecord and AfterRecord", step)
	}
	k.broker.fail(run, kind, 1)
}

// Deliver has the run executed this many times, one after the other: the broker hears of the
// last only. At least once means that a task has to bear that.
func (k *Kit) Deliver(t testing.TB, run AnyRun, times int) {
	t.Helper()
	if times < 1 {
		t.Fatalf("tasktest: Deliver %d times: it has to be once or more", times)
	}
	if times > 1 {
		k.broker.fail(run, deliverAgain, times-1)
	}
}

// LoseLease has the process that takes the run lose its lease while it works, as one that was
// suspended does: the context of a run that goes on is cancelled, the broker refuses the
// outcome, and the run starts again after 10 seconds: see [Kit.Advance].
func (k *Kit) LoseLease(t testing.TB, run AnyRun) {
	t.Helper()
	k.broker.fail(run, loseLease, 1)
}

// LoseReply has the next call that queues runs return an error although they are queued.
func (k *Kit) LoseReply(t testing.TB) {
	t.Helper()
	k.broker.inject(func(b *testBroker) { b.loseReply++ })
}

// Down has the broker fail for this long.
func (k *Kit) Down(t testing.TB, d time.Duration) {
	t.Helper()
	k.broker.inject(func(b *testBroker) { b.downUntil = b.now().Add(d) })
}

func (b *testBroker) inject(f func(*testBroker)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// faultKind is what goes wrong with a delivery.
type faultKind int

const (
	none faultKind = iota
	crashBeforeStart
	crashBeforeRecord
	crashAfterRecord
	deliverAgain
	loseLease
)

// fault is what goes wrong with the next deliveries of a run.
type fault struct {
	id   string // empty: of the run that is taken next
	kind faultKind
	left int
}

func (b *testBroker) fail(run AnyRun, kind faultKind, times int) {
	f := &fault{kind: kind, left: times}
	if run != nil {
		f.id = run.id()
	}
	b.inject(func(b *testBroker) { b.faults = append(b.faults, f) })
}

// faultOf returns what goes wrong with this delivery of a run. One fault at a time applies.
func (b *testBroker) faultOf(id string) faultKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, f := range b.faults {
		if f.id != "" && f.id != id {
			continue
		}
		f.id = id
		if f.left--; f.left == 0 {
			b.faults = append(b.faults[:i], b.faults[i+1:]...)
		}
		return f.kind
	}
	return none
}
