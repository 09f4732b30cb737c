package redis

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// Begin notes that a run that came back from a session whose lease had ended is
// about to begin. Of other runs there is nothing to note.
func (s *session) Begin(ctx context.Context, run *broker.TaskRun) (held bool, err error) {
	at, ok := run.Receipt.(*receipt)
	if !ok || at.session != s {
		return false, nil
	}
	s.mu.Lock()
	past, held := at.slot.past[at.index], !at.slot.gone && !at.slot.done[at.index]
	s.mu.Unlock()
	if past == 0 || !held {
		return held, nil
	}
	q := at.slot.hold.q
	v, err := s.b.repeat(ctx, s.b.scripts.begin, s.b.clients.lease,
		[]string{q.batch(at.slot.member), q.done(at.slot.member)}, at.index)
	if err != nil {
		return false, s.b.fail(ctx, "begin run "+run.ID, err)
	}
	s.mu.Lock()
	at.slot.past[at.index] = hasBegun
	s.mu.Unlock()
	return v == int64(1), nil
}

// leavePast keeps in the element of a run that goes back what recoveries left
// there. If it had begun that is over.
func (at *receipt) leavePast(element []byte) {
	if at.slot.past == nil {
		return
	}
	s := at.session
	s.mu.Lock()
	past := at.slot.past[at.index]
	s.mu.Unlock()
	if past == hasBegun {
		past = 1
	}
	element[1] |= past << pastShift
}

// How long a run waits, at most, whose session ended under it again: at the
// first time nothing, for most sessions end by no run's fault.
const (
	firstWait   = time.Second
	longestWait = time.Minute
)

// waits returns for how many runs of a batch it is told how long they are to
// wait should they have begun in a session whose lease has ended, and for each
// its index and that.
func waits(elements []string) []any {
	told := []any{0}
	var names broker.Decoder
	for i, e := range elements {
		var run broker.TaskRun
		if len(e) <= headerSize || e[1]>>pastShift == 0 || parseElement(&names, []byte(e), &run) != nil {
			continue
		}
		told = append(told, i, millis(waitAfter(run.Deliveries+1-run.Attempt)))
	}
	told[0] = len(told) / 2
	return told
}

// waitAfter draws the wait after so many deliveries that came to no end.
func waitAfter(crashes int) time.Duration {
	longest := firstWait << min(max(crashes-2, 0), 6)
	return 1 + rand.N(min(longest, longestWait))
}
