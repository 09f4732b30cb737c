package memory

import (
	"context"
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

// ChangeRuns changes runs, as [broker.Changer] says. Match is called without the broker's lock; a
// run that is no longer in the state then stays.
func (b *Broker) ChangeRuns(ctx context.Context, queue string, state broker.State, s broker.RunSearch, c broker.RunChange) (*broker.ChangePage, error) {
	page, err := b.changeRuns(ctx, queue, state, s, c)
	if err != nil {
		return page, fmt.Errorf("change %.64q runs of queue %.64q: %w", state, queue, err)
	}
	return page, nil
}

func (b *Broker) changeRuns(ctx context.Context, queue string, state broker.State, s broker.RunSearch, c broker.RunChange) (*broker.ChangePage, error) {
	switch {
	case (c.Cancel != nil) == c.RunNow:
		return nil, errors.New("a change cancels runs, or makes them due at once")
	case c.RunNow && state != broker.StateDelayed:
		return nil, errors.New("only delayed runs can be made due at once")
	case state.Ended():
		return nil, errors.New("they have ended")
	}
	v, err := b.look(ctx, queue, state, s)
	if err != nil {
		return nil, err
	}
	found, looked, after := v.sift(searchName(queue, state), s)
	page := &broker.ChangePage{Looked: looked, Total: v.total, After: after}
	if len(found) == 0 {
		return page, nil
	}
	if err := b.enter(ctx); err != nil {
		page.After = s.After
		return page, err
	}
	defer b.mu.Unlock()
	now, q := b.now(), b.queues[queue]
	for _, f := range found {
		if f.e.run.ID != f.run.ID || f.e.state() != state {
			page.Stayed = append(page.Stayed, broker.Stay{ID: f.run.ID, Why: "it is no longer " + string(state)})
			continue
		}
		page.Changed++
		if c.RunNow {
			q.delayed.remove(f.e)
			f.e.setDue(now.after(0))
			q.pushBack(f.e)
		} else {
			b.cancel(q, f.e, *c.Cancel, now)
		}
	}
	b.wake(q, now)
	return page, nil
}

// ChangeDead changes dead letters, as [broker.Changer] says: those of a page from the oldest to
// the newest.
func (b *Broker) ChangeDead(ctx context.Context, queue string, s broker.DeadSearch, c broker.DeadChange) (*broker.ChangePage, error) {
	do := b.requeue
	switch c {
	case broker.Requeue:
	case broker.Delete:
		do = deleteLetter
	default:
		return nil, fmt.Errorf("change dead letters of queue %.64q: there is no change %d", queue, c)
	}
	found, page, err := b.searchDead(ctx, queue, s)
	if err == nil && len(found) > 0 {
		if err = b.changeDead(ctx, queue, found, page, do); err != nil {
			page.After = s.After
		}
	}
	if err != nil {
		return page, fmt.Errorf("change dead letters of queue %.64q: %w", queue, err)
	}
	return page, nil
}

// changeDead changes the letters that were found and are still there.
func (b *Broker) changeDead(ctx context.Context, queue string, found []deadLetter, page *broker.ChangePage, do func(*queue, deadLetter, clock) error) error {
	if err := b.enter(ctx); err != nil {
		return err
	}
	defer b.mu.Unlock()
	now, q := b.now(), b.queues[queue]
	wanted := make(map[int64]bool, len(found))
	for _, l := range found {
		wanted[l.order] = true
	}
	page.Changed = q.dead.removeEach(func(l deadLetter) bool { return wanted[l.order] }, func(l deadLetter) bool {
		delete(wanted, l.order)
		err := do(q, l, now)
		if err != nil {
			page.Stayed = append(page.Stayed, broker.Stay{ID: l.ID, Why: whyStayed(l.ID, err)})
		}
		return err == nil
	})
	for _, l := range found {
		if wanted[l.order] {
			page.Stayed = append(page.Stayed, broker.Stay{ID: l.ID, Why: "it is no longer there"})
		}
	}
	b.wake(q, now)
	return nil
}

// whyStayed returns why a dead letter could not be queued again.
func whyStayed(id string, err error) string {
	if by := inTheWay(id, err); by != id {
		return "the live run " + by + " has its unique key"
	}
	return "its id is that of a live run"
}
