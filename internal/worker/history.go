package worker

import (
	"time"

	"github.com/taskgen/taskgen/broker"
)

// lostMessage is the failure of an attempt that did not end.
const lostMessage = "it did not come to an end: its process died, or its consumer stopped renewing its lease"

// addHistory adds the attempt to the run's history if its outcome is stored with more than a
// count: plain runs that succeed have no history, and cost nothing.
func (a *Attempt) addHistory(o *broker.Outcome, took time.Duration) {
	if o.Verdict == broker.Succeeded && a.run.Keep == 0 {
		return
	}
	a.addLost()
	if o.Verdict == broker.Succeeded || o.Failure != nil {
		end := broker.Attempt{Started: a.started, Took: took, Host: a.session.cfg.Host}
		if o.Verdict != broker.Succeeded {
			end.Kind, end.Message = o.Failure.Kind, o.Failure.Message
		}
		a.run.History = a.run.History.Add(end)
	}
	if o.Verdict == broker.Retry && o.Delay > 0 && !o.ForOthers {
		due := broker.History{Attempts: a.run.History.OrZero().Attempts, Due: time.Now().Add(o.Delay)}
		a.run.History = &due // not changed in place: others may have it
	}
}

// addLost adds the attempts that did not end. Nobody knows when they began, and where.
func (a *Attempt) addLost() {
	for ; a.lost > 0; a.lost-- {
		a.run.History = a.run.History.Add(broker.Attempt{Kind: broker.FailureCrashed, Message: lostMessage})
	}
}

// countLost counts the deliveries of the run that did not end and are not in its history: those
// of a child process that crashed are.
func (a *Attempt) countLost() {
	a.lost = int16(min(a.Crashes()-1, broker.MaxHistory))
	for _, before := range a.run.History.OrZero().Attempts {
		if before.Kind == broker.FailureCrashed {
			a.lost--
		}
	}
}

// failHistory corrects the last attempt of a run that succeeded, but cannot be recorded as that.
func failHistory(run *broker.TaskRun, failure broker.Failure) {
	h := run.History.OrZero()
	last := len(h.Attempts) - 1
	if last < 0 || h.Attempts[last].Kind != "" {
		return
	}
	end := h.Attempts[last]
	end.Kind, end.Message = failure.Kind, failure.Message
	h.Attempts = h.Attempts[:last]
	run.History = h.Add(end)
}
