package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// ChangeDead changes the dead letters of a queue that match, the newest pages first, and the oldest
// letter of a page first. It finds them as [Broker.FindDead] does. A letter that cannot be read
// can only be deleted.
func (b *Broker) ChangeDead(ctx context.Context, queueName string, d broker.DeadSearch, c broker.DeadChange) (*broker.ChangePage, error) {
	if c != broker.Requeue && c != broker.Delete {
		return nil, fmt.Errorf("change dead letters: unknown change %d", c)
	}
	var found []*foundLetter
	s, err := b.newDeadSearch(ctx, queueName, d, func(l *foundLetter) { found = append(found, l) })
	if err != nil {
		return nil, fmt.Errorf("change dead letters: %w", err)
	}
	s.removes = true
	err = s.run(ctx)
	ch := &changePage{b: b, q: s.q, page: new(broker.ChangePage), gone: map[string]int64{}}
	slices.Reverse(found)
	switch {
	case err != nil:
	case c == broker.Delete:
		err = ch.deleteDead(ctx, found)
	default:
		err = ch.requeueDead(ctx, found, s.total)
	}
	s.at.removed(ch.gone[s.q.Dead])
	ch.page.Looked, ch.page.Total, ch.page.After = s.looked, s.total, s.after()
	if err != nil {
		ch.page.After = d.After // to look again at what was not changed
		return ch.page, b.fail(ctx, "change dead letters of queue "+s.q.Name, b.blameIn(ctx, err, s.q))
	}
	return ch.page, nil
}

// deleteDead deletes dead letters, from the tail on.
func (ch *changePage) deleteDead(ctx context.Context, found []*foundLetter) error {
	removed := int64(0)
	for len(found) > 0 {
		var page []*ending
		size, most := 0, (&foundRun{index: found[0].index, behind: found[0].behind}).fewAt(0)
		for _, l := range found {
			if size += len(l.entry); len(page) >= most || len(page) > 0 && size > searchBytes {
				break
			}
			page = append(page, &ending{entry: l.entry, index: l.index, behind: l.behind - removed})
		}
		slices.Reverse(page) // in the order of the list
		letters := found[:len(page)]
		before := ch.gone[ch.q.Dead]
		err := ch.end(ctx, ch.q.Dead, page, func(i int, change script.EntryChange, doubtful bool) {
			l := letters[len(letters)-1-i].letter
			ch.note(ch.q.Dead, l.ID, change, doubtful, stayMoved)
			if change.Done && l.Run != nil {
				ch.b.forgetGroup(ctx, l.Run.Links.OrZero().Awaits) // else it expires
			}
		})
		if err != nil {
			return err
		}
		removed += ch.gone[ch.q.Dead] - before
		found = found[len(letters):]
	}
	return nil
}

// requeueDead queues dead letters again, as [Broker.RequeueDead] does.
func (ch *changePage) requeueDead(ctx context.Context, found []*foundLetter, length int64) error {
	others := &sentDead{b: ch.b, from: ch.q, wanted: map[string]int{}, stayed: new(broker.DuplicateError), unreachable: map[string]bool{}}
	var ids []string
	found = slices.DeleteFunc(found, func(l *foundLetter) bool {
		if l.letter.Run == nil {
			ch.stays(l.letter.ID, stayUnreadable)
			return true
		}
		others.wanted[l.letter.ID] = len(ids)
		ids = append(ids, l.letter.ID)
		return false
	})
	// To remove one the server goes through all behind it.
	few := int(max(1, min(deadPage, 8000/(20+length*3/100))))
	for page := range slices.Chunk(found, few) {
		var entries []string
		for _, l := range page {
			entries = append(entries, l.entry)
		}
		n, err := ch.b.retryDead(ctx, ch.q, entries, others)
		ch.page.Changed += n
		ch.gone[ch.q.Dead] += int64(n)
		if err != nil {
			return errors.Join(others.failed, err)
		}
	}
	for _, conflict := range others.stayed.Runs {
		why := "run " + conflict.ID + " lives and has its unique key"
		if conflict.ID == ids[conflict.Index] {
			why = "its id is that of a live run"
		}
		ch.stays(ids[conflict.Index], why)
	}
	return cmp.Or(others.failed, ctx.Err())
}
