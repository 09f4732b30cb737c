package worker

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	tallyEvery   = 10 * time.Second
	tallyTimeout = 5 * time.Second
	// lastTallyTimeout bounds how long the last tallies delay a stop.
	lastTallyTimeout = stopTimeout / 4
	// maxUnsentTallies bounds what is kept while the broker does not take tallies.
	maxUnsentTallies = 10_000
)

// tallyCounts are the tallies of a task that were not collected yet. A run adds to them under
// the lock of its task's state, which it needs anyway, and allocates nothing: runs of one
// task are mostly of one queue, and a minute is long.
type tallyCounts struct {
	minute  int64 // of current, since the Unix epoch
	current *tally
	others  map[tallyKey]*tally // those of other queues and minutes
}

type tally struct {
	key tallyKey
	broker.Tally
}

type tallyKey struct {
	queue, task string
	minute      int64
}

// count counts an attempt or an end.
func (t *tally) count(v broker.Verdict) {
	switch v {
	case broker.Succeeded:
		t.Succeeded++
	case broker.Dead:
		t.Dead++
	case broker.Dropped:
		t.Dropped++
	default:
		t.Retried++
	}
}

// at returns the tally of a queue at an instant.
func (c *tallyCounts) at(queue string, now time.Time) *tally {
	minute := now.Unix() / 60
	if t := c.current; t != nil && minute == c.minute && queue == t.key.queue {
		return t
	}
	key := tallyKey{queue: queue, minute: minute}
	if c.current != nil {
		if c.others == nil {
			c.others = make(map[tallyKey]*tally)
		}
		c.others[c.current.key] = c.current
	}
	t := c.others[key]
	if t == nil {
		t = &tally{key: key, Tally: broker.Tally{Queue: queue, Minute: time.Unix(60*minute, 0).UTC()}}
	}
	c.minute, c.current = minute, t
	return t
}

// take removes and returns all tallies.
func (c *tallyCounts) take() []*tally {
	var all []*tally
	if c.current != nil {
		delete(c.others, c.current.key)
		all = append(all, c.current)
	}
	for _, t := range c.others {
		all = append(all, t)
	}
	*c = tallyCounts{}
	return all
}

// countUnstarted counts the end of a run that did not start here.
func (w *Worker) countUnstarted(run *broker.TaskRun, v broker.Verdict) {
	ts := w.byName[run.Task]
	if w.tallies == nil || ts == nil {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.counts.at(run.Queue, time.Now()).count(v)
}

// unsentTallies are tallies that were collected, and that the broker does not have. One
// goroutine at a time uses them.
type unsentTallies struct {
	list    []*tally // the oldest first
	byKey   map[tallyKey]*tally
	failing bool
	dropped bool // some were, since the last that were sent
}

// add adds a tally to those of the same queue, task and minute. It returns false if it has
// dropped the oldest for it.
func (u *unsentTallies) add(t *tally) bool {
	if same := u.byKey[t.key]; same != nil {
		same.Add(&t.Tally)
		return true
	}
	if u.byKey == nil {
		u.byKey = make(map[tallyKey]*tally)
	}
	u.byKey[t.key] = t
	u.list = append(u.list, t)
	if len(u.list) <= maxUnsentTallies {
		return true
	}
	delete(u.byKey, u.list[0].key)
	u.list[0] = nil
	u.list = u.list[1:]
	return false
}

// tallyLoop sends tallies to the broker until ctx ends.
func (w *Worker) tallyLoop(ctx context.Context) {
	for {
		timer := time.NewTimer(tallyEvery - rand.N(tallyEvery/10)) // consumers that started together keep apart
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		w.sendTallies(ctx, tallyTimeout)
	}
}

// sendLastTallies sends what is left when all runs have ended.
func (w *Worker) sendLastTallies(ctx context.Context) {
	if w.tallies != nil {
		w.sendTallies(context.WithoutCancel(ctx), lastTallyTimeout)
	}
}

// sendTallies collects tallies and sends them. Those that cannot be sent wait for the next time.
func (w *Worker) sendTallies(ctx context.Context, within time.Duration) {
	u := &w.unsent
	for _, ts := range w.tasks {
		ts.mu.Lock()
		taken := ts.counts.take()
		ts.mu.Unlock()
		for _, t := range taken {
			t.key.task, t.Task = ts.name, ts.name
			if t.Validate() != nil {
				continue // no broker takes it, nor what is sent with it: a clock is far off
			}
			if !u.add(t) && !u.dropped {
				u.dropped = true
				w.logger.Warn("tallies were dropped, the oldest first: the broker does not take them", "kept", maxUnsentTallies)
			}
		}
	}
	if len(u.list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	left, err := u.send(ctx, w.tallies)
	if err != nil {
		if !u.failing && ctx.Err() != context.Canceled {
			w.logger.Warn("cannot send tallies to the broker, trying again: charts lack these runs until then", "tallies", left, "error", err)
		}
		u.failing = true
		return
	}
	*u = unsentTallies{}
}

// send sends the tallies of each queue by themselves, and forgets those that the broker has: what
// is sent again counts again. It returns how many are left, and the first error.
func (u *unsentTallies) send(ctx context.Context, to broker.Tallies) (left int, failed error) {
	var queues []string
	of := make(map[string][]broker.Tally)
	for _, t := range u.list {
		if of[t.key.queue] == nil {
			queues = append(queues, t.key.queue)
		}
		of[t.key.queue] = append(of[t.key.queue], t.Tally)
	}
	for _, queue := range queues {
		err := ctx.Err()
		if err == nil {
			err = to.AddTallies(ctx, of[queue])
		}
		if err == nil {
			delete(of, queue)
		} else if failed == nil {
			failed = err
		}
	}
	u.list = slices.DeleteFunc(u.list, func(t *tally) bool { return of[t.key.queue] == nil })
	maps.DeleteFunc(u.byKey, func(key tallyKey, _ *tally) bool { return of[key.queue] == nil })
	return len(u.list), failed
}
