package memory

import (
	"context"
	"fmt"
	"sort"

	"github.com/taskgen/taskgen/broker"
)

// searchedDead is what the cursors of searches for dead letters have in place of a state.
const searchedDead = "dead"

// FindDead returns a page of dead letters, as [broker.Searcher] says. Match is called without
// the broker's lock.
func (b *Broker) FindDead(ctx context.Context, queue string, s broker.DeadSearch) (*broker.DeadPage, error) {
	found, looked, err := b.searchDead(ctx, queue, s)
	if err != nil {
		return nil, fmt.Errorf("find dead letters of queue %.64q: %w", queue, err)
	}
	page := &broker.DeadPage{Looked: looked.Looked, Total: looked.Total, After: looked.After}
	for _, l := range found {
		page.Letters = append(page.Letters, l.detached())
	}
	return page, nil
}

// detached returns a copy for a caller.
func (l *deadLetter) detached() *broker.DeadLetter {
	c := *l.DeadLetter
	c.Run = cloneRun(c.Run)
	return &c
}

// searchDead returns the letters of one page that match, and what it looked at.
func (b *Broker) searchDead(ctx context.Context, queue string, s broker.DeadSearch) ([]deadLetter, *broker.ChangePage, error) {
	name := searchName(queue, searchedDead)
	from, err := parseCursor(name, s.After, beforeNewest)
	if err != nil {
		return nil, nil, err
	}
	page := new(broker.ChangePage)
	letters, before, err := b.letters(ctx, queue, from.n[0], bounded(s.Look, broker.MaxLook), &page.Total)
	if err != nil {
		return nil, nil, err
	}
	var found []deadLetter
	for _, l := range letters {
		page.Looked++
		if s.Match != nil {
			shown, run := *l.DeadLetter, *l.Run
			if shown.Run = &run; !s.Match(&shown) {
				continue
			}
		}
		if found = append(found, l); len(found) == bounded(s.Max, broker.MaxFound) {
			break
		}
	}
	if page.Looked > 0 && page.Looked < before {
		page.After = position{n: [4]int64{letters[page.Looked-1].order}}.cursor(name)
	}
	return found, page, nil
}

// letters returns up to most of the letters whose order is less, the newest first, and how many
// there are. It sets total to how many the queue has.
func (b *Broker) letters(ctx context.Context, queue string, order int64, most int, total *int64) (letters []deadLetter, before int, err error) {
	if err := b.enter(ctx); err != nil {
		return nil, 0, err
	}
	defer b.mu.Unlock()
	q := b.queues[queue]
	if q == nil {
		return nil, 0, nil
	}
	d := &q.dead
	n := len(d.letters)
	*total = int64(n)
	before = sort.Search(n, func(i int) bool { return d.letters[(d.oldest+i)%n].order >= order })
	for i := before - 1; i >= 0 && len(letters) < most; i-- {
		letters = append(letters, d.letters[(d.oldest+i)%n])
	}
	return letters, before, nil
}
