package brokertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

var auditChecks = []check{
	{"an audit counts the runs of its queue, and finds no fault in what nobody has damaged", auditClean},
	{"what an audit has looked at, repairing, is handed out and ends once", auditKeeps},
	{"runs of a lease that has ended are no fault", auditLapsed},
	{"an audit finds no fault in a queue at work", auditAtWork},
	{"audits by themselves name what they audited, and find no fault", auditNext},
	{"an ended context audits nothing", auditEnded},
}

func (f *fixture) auditor() maintenance.Auditor { return f.b.(maintenance.Auditor) }

// audit audits a queue in which there must be so many runs and no fault.
func (f *fixture) audit(queue string, repair bool, runs int) {
	f.Helper()
	report, err := f.auditor().Audit(f.ctx(), queue, repair)
	require.NoError(f, err, "Audit of %s, repairing: %v", queue, repair)
	require.Equal(f, maintenance.Report{Repaired: repair, Runs: runs}, report, "report of the audit of %s", queue)
}

// newMixed makes runs with all that an audit compares, and the broker keeps: ids of
// their own, records, unique keys and limits.
func (f *fixture) newMixed(queue, prefix string, n int) []*broker.TaskRun {
	runs := f.newRuns(queue, n)
	for i, r := range runs {
		ownID(fmt.Sprintf("%s-%d", prefix, i))(r)
		priority(broker.Priority(i%3 - 1))(r)
		if is[broker.Records](f.b) {
			keep(time.Hour)(r)
		}
		if f.keeps(broker.PolicyUnique) {
			unique(r.ID)(r)
		}
		if f.keeps(broker.PolicyLimits) {
			limit("limit", aLot, 0)(r)
		}
	}
	return runs
}

// mixed queues runs of which the session then holds two, two have ended and two are
// to come in an hour; it returns those that are held.
func (f *fixture) mixed(s broker.Session, queue string, n int) (held []*broker.TaskRun) {
	f.Helper()
	runs := f.newMixed(queue, queue, n)
	for _, r := range runs[n-2:] {
		r.Delay, r.Kind = time.Hour, broker.CPU
	}
	f.queue(runs...)
	held = f.take(s, 4, queue)
	f.finish(s, broker.Outcome{Run: held[0], Verdict: broker.Succeeded},
		died(held[1]))
	return held[2:]
}

func auditClean(f *fixture) {
	f.audit("unused", false, 0)
	f.audit("unused", true, 0)
	s := f.openSession(longHold)
	f.mixed(s, "p", 10)
	f.mixed(s, "q", 20)
	f.audit("q", false, 18)
	f.audit("q", true, 18)
	f.audit("q", false, 18)
	f.audit("p", true, 8)
}

func auditKeeps(f *fixture) {
	s := f.openSession(longHold)
	held := f.mixed(s, "q", 12)
	f.audit("q", true, 10)
	require.Equal(f, 8, f.length("q"), "length after an audit: runs that wait")
	for _, r := range held {
		again := *r
		require.ErrorIs(f, f.b.QueueTasks(f.ctx(), &again), broker.ErrDuplicate, "QueueTasks with the id of a run that is held")
	}
	f.finish(s, succeeded(held...)...)
	rest := f.take(s, 6, "q")
	f.finish(s, succeeded(rest...)...)
	f.takesNothing(s, "q")
	again := f.newMixed("q", "q", 10) // all ids and keys but those of the two delayed
	f.queue(again...)
	f.audit("q", true, 12)
}

func auditLapsed(f *fixture) {
	s := f.openSession(shortHold)
	f.queue(f.newMixed("q", "q", 5)...)
	f.take(s, 3, "q")
	f.pass(shortHold)
	f.audit("q", true, 5)
	f.lapse(3, "q")
	f.audit("q", true, 5)
	alive := f.openSession(longHold)
	f.finish(alive, succeeded(f.take(alive, 5, "q")...)...)
	f.audit("q", true, 0)
}

// auditAtWork audits while runs are taken, tried again and finished.
func auditAtWork(f *fixture) {
	const workers, audits = 4, 2
	ctx, stop := context.WithCancel(f.within(endurance))
	defer stop()
	var all []*broker.TaskRun
	for i := range workers {
		all = append(all, f.newMixed("q", fmt.Sprintf("w%d", i), 50)...)
	}
	f.queue(all...)
	working := f.start(workers, func(int) error {
		s, err := f.leaser().OpenSession(f.Context(), longHold)
		if err != nil {
			return err
		}
		for n := 0; ctx.Err() == nil; n++ {
			runs, err := s.Take(ctx, anyOf(1+n%20, "q"))
			if ctx.Err() != nil {
				break // Close gives its runs back
			}
			if err != nil {
				return err
			}
			for some := range slices.Chunk(runs, 5) {
				var outcomes []broker.Outcome
				for i, r := range some {
					r.Attempt++
					outcomes = append(outcomes, broker.Outcome{Run: r, Verdict: broker.Retry,
						Failure: failure("again"), Delay: time.Duration((n+i)%3) * time.Millisecond})
				}
				if _, err := s.Finish(f.Context(), outcomes...); err != nil {
					return err
				}
			}
		}
		return s.Close(f.Context())
	})
	for range audits {
		report, err := f.auditor().Audit(f.ctx(), "q", true)
		require.NoError(f, err, "Audit of a queue at work")
		require.Zero(f, report.Faults(), "faults in a queue at work: %+v", report)
	}
	stop()
	require.NoError(f, working(), "work while the queue is audited")
	f.audit("q", false, len(all))
	var ended tally
	s := f.openSession(longHold)
	for ended.len() < len(all) {
		runs := f.take(s, 1, "q")
		f.finish(s, succeeded(runs...)...)
		ended.add(runs...)
	}
	f.requireOnce(&ended, all, "runs of a queue that was audited at work")
	f.audit("q", true, 0)
}

func auditNext(f *fixture) {
	queues := []string{"p", "q", "unused"}
	want := map[string]int{"p": 8, "q": 18}
	s := f.openSession(longHold)
	f.mixed(s, "p", 10)
	f.mixed(s, "q", 20)
	name, report, err := f.auditor().AuditNext(f.ctx(), nil)
	require.NoError(f, err, "AuditNext of no queues")
	require.Empty(f, name, "the queue of an audit of none")
	require.Zero(f, report, "report of an audit of none")
	f.each(8, func(int) error {
		name, report, err := f.auditor().AuditNext(f.ctx(), queues)
		switch {
		case err != nil:
			return err
		case name == "" && report != (maintenance.Report{}):
			return fmt.Errorf("report %+v of no queue", report)
		case name != "" && report != (maintenance.Report{Repaired: true, Runs: want[name]}):
			return fmt.Errorf("report %+v of queue %q", report, name)
		case name != "" && !slices.Contains(queues, name):
			return fmt.Errorf("queue %q was audited, which is none of those given", name)
		}
		return nil
	})
	f.audit("q", false, 18)
}

func auditEnded(f *fixture) {
	f.queueNew("q", 1)
	_, err := f.auditor().Audit(f.ended(), "q", true)
	require.Error(f, err, "Audit with an ended context")
	f.audit("q", false, 1)
}

var riskChecks = []check{
	{"the server's risks are lines for people, also if few things may be asked", risksAreLines},
	{"asking for risks changes no queue", risksChangeNothing},
	{"an ended context asks for no risks", risksEnded},
}

func (f *fixture) risks(ctx context.Context, thorough bool) (broker.Risks, error) {
	return f.b.(broker.RiskReporter).Risks(ctx, thorough)
}

func risksAreLines(f *fixture) {
	for _, thorough := range []bool{false, true} {
		risks, err := f.risks(f.ctx(), thorough)
		require.NoError(f, err, "Risks, thorough: %v", thorough)
		for _, line := range append(risks.Found, risks.Summary) {
			require.Regexp(f, `^[^\n]+$`, line, "a line of Risks, thorough: %v", thorough)
		}
	}
}

func risksChangeNothing(f *fixture) {
	runs := f.queueNew("q", 3)
	f.each(8, func(i int) error {
		_, err := f.risks(f.ctx(), i%2 == 0)
		return err
	})
	require.Equal(f, ids(runs), ids(f.get(3, "q")), "runs taken after the server was asked for its risks")
}

func risksEnded(f *fixture) {
	for _, thorough := range []bool{false, true} {
		_, err := f.risks(f.ended(), thorough)
		require.ErrorIs(f, err, context.Canceled, "Risks with an ended context, thorough: %v", thorough)
	}
}
