package brokertest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// queueOne makes a run and queues it.
func (f *fixture) queueOne(queue string, edits ...func(*broker.TaskRun)) *broker.TaskRun {
	f.Helper()
	return f.queueNew(queue, 1, edits...)[0]
}

// takeOne leases one run.
func (f *fixture) takeOne(s broker.Session, queues ...string) *broker.TaskRun {
	f.Helper()
	return f.take(s, 1, queues...)[0]
}

// hold queues n new runs in queue "q", and returns a session that has taken them.
func (f *fixture) hold(n int, edits ...func(*broker.TaskRun)) (broker.Session, []*broker.TaskRun) {
	f.Helper()
	f.queueNew("q", n, edits...)
	s := f.openSession(longHold)
	return s, f.take(s, n, "q")
}

// holdOne is hold for one run.
func (f *fixture) holdOne(edits ...func(*broker.TaskRun)) (broker.Session, *broker.TaskRun) {
	f.Helper()
	s, runs := f.hold(1, edits...)
	return s, runs[0]
}

// close closes a session.
func (f *fixture) close(s broker.Session) {
	f.Helper()
	require.NoError(f, s.Close(f.ctx()), "Close")
}

// failure is a failure with all its fields.
func failure(message string) *broker.Failure {
	return &broker.Failure{Kind: broker.FailureFailed, Message: message, Stack: "goroutine 1 [running]:\n\tmain.go:1"}
}

// succeeded returns outcomes of runs that succeeded without a result.
func succeeded(runs ...*broker.TaskRun) []broker.Outcome {
	out := make([]broker.Outcome, len(runs))
	for i, r := range runs {
		out[i] = broker.Outcome{Run: r, Verdict: broker.Succeeded}
	}
	return out
}

// returned is the outcome of a run that succeeded with a result.
func returned(r *broker.TaskRun, result string) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Succeeded, Result: []byte(result)}
}

// retried is the outcome of a run that failed, and is tried again after a delay.
func retried(r *broker.TaskRun, delay time.Duration) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Retry, Delay: delay, Failure: failure("again")}
}

// died is the outcome of a run that failed for good.
func died(r *broker.TaskRun) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Dead, Failure: failure("bad")}
}

// dropped is the outcome of a run that expired.
func dropped(r *broker.TaskRun) broker.Outcome {
	return broker.Outcome{Run: r, Verdict: broker.Dropped, Failure: failure("expired")}
}
