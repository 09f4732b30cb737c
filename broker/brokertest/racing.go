package brokertest

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var raceChecks = []check{
	{"a run that is finished while it is recovered ends once", finishAgainstRecover},
	{"a run finished by many at once ends once", finishAgainstFinish},
	{"every run ends once while sessions die, leave, retry and recover", churn},
}

// ends applies outcomes one by one and counts those that were applied.
func ends(ctx context.Context, s broker.Session, ended *tally, outcomes ...broker.Outcome) error {
	for _, o := range outcomes {
		done, err := s.Finish(ctx, o)
		if err != nil {
			return err
		}
		if len(done.Fenced) == 0 && o.Verdict != broker.Retry {
			ended.add(o.Run)
		}
	}
	return nil
}

// finishAgainstRecover finishes the runs of many sessions one by one at the
// moment their leases end.
func finishAgainstRecover(f *fixture) {
	const rounds, sessions, each, lease = 15, 8, 5, 40 * time.Millisecond
	var ended tally
	var all []*broker.TaskRun
	stop := f.within(endurance)
	for range rounds {
		all = append(all, f.queueNew("q", sessions*each)...)
		start := time.Now()
		finishing := f.start(sessions, func(int) error {
			s, err := f.leaser().OpenSession(stop, lease)
			if err != nil {
				return err
			}
			runs, err := s.Take(stop, anyOf(each, "q"))
			if err != nil {
				return err
			}
			f.pass(lease - time.Since(start) + rand.N(6*time.Millisecond) - 3*time.Millisecond)
			return ends(stop, s, &ended, succeeded(runs...)...)
		})
		recovering := f.start(2, func(int) error {
			for time.Since(start) < 2*lease {
				if _, err := f.leaser().Recover(stop, []string{"q"}); err != nil {
					return err
				}
			}
			return nil
		})
		require.NoError(f, finishing(), "finishing at the end of the lease")
		require.NoError(f, recovering(), "recovering at the end of the lease")
	}
	applied := ended.len()
	s := f.openSession(longHold)
	for ended.len() < len(all) && stop.Err() == nil {
		_, err := f.leaser().Recover(stop, []string{"q"})
		require.NoError(f, err, "Recover")
		runs, err := s.Take(f.within(quiet), anyOf(aLot, "q"))
		require.NoError(f, ignoreTimeout(err), "Take of what was recovered")
		require.NoError(f, ends(stop, s, &ended, succeeded(runs...)...))
	}
	f.requireOnce(&ended, all, "ends of runs finished while they were recovered")
	require.Zero(f, f.length("q"), "length after all have ended")
	f.Logf("of %d runs %d ended before they were recovered", len(all), applied)
}

func finishAgainstFinish(f *fixture) {
	const total = 200
	all := f.queueNew("q", total)
	s := f.openSession(longHold)
	runs := f.take(s, total, "q")
	var ended tally
	stop := f.within(endurance)
	f.each(4, func(int) error {
		mine := append([]*broker.TaskRun(nil), runs...)
		rand.Shuffle(total, func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		return ends(stop, s, &ended, succeeded(mine...)...)
	})
	f.requireOnce(&ended, all, "ends of runs that four goroutines finished")
}

// churn lets sessions do all they can do to runs while they are queued, until
// each run has ended.
func churn(f *fixture) {
	const total, workers, lease = 600, 6, 60 * time.Millisecond
	all := f.newRuns("q", total)
	var ended tally
	stop := f.within(endurance)
	queueing := f.start(1, func(int) error {
		for i := 0; i < total; i += 5 {
			if err := f.b.QueueTasks(stop, all[i:i+5]...); err != nil {
				return err
			}
		}
		return nil
	})
	working := f.start(workers, func(int) error {
		for ended.len() < total && stop.Err() == nil {
			if err := f.live(&ended, lease); err != nil {
				return err
			}
			if _, err := f.leaser().Recover(stop, []string{"q"}); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(f, queueing(), "queueing")
	require.NoError(f, working(), "working")
	f.requireOnce(&ended, all, "ends of runs")
	require.Zero(f, f.length("q"), "length after all have ended")
}

// live is one session's life: it takes, renews or not, finishes in some way,
// and leaves or dies.
func (f *fixture) live(ended *tally, lease time.Duration) error {
	s, err := f.leaser().OpenSession(f.ctx(), lease)
	if err != nil {
		return err
	}
	for range 3 {
		runs, err := s.Take(f.within(lease/2), anyOf(8, "q"))
		if err != nil {
			return ignoreTimeout(err)
		}
		if rand.N(4) == 0 {
			f.pass(lease + rand.N(lease/4)) // too long
		}
		if err := s.Renew(f.ctx()); err != nil && !errors.Is(err, broker.ErrLeaseLost) {
			return err
		}
		for _, r := range runs {
			o := broker.Outcome{Run: r, Verdict: broker.Succeeded}
			switch rand.N(8) {
			case 0:
				continue // forgotten: its lease ends, or the session leaves
			case 1:
				o.Verdict, o.Failure = broker.Retry, failure("again")
			case 2:
				o.Verdict, o.Failure, o.Delay = broker.Retry, failure("later"), rand.N(lease)
			case 3:
				o.Verdict, o.Failure = broker.Dead, failure("bad")
			}
			if err := ends(f.ctx(), s, ended, o); err != nil {
				return err
			}
		}
	}
	if rand.N(2) == 0 {
		return s.Close(f.ctx())
	}
	return nil
}

// ignoreTimeout leaves out the error of a Take that found nothing in its time.
func ignoreTimeout(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
