package inspect

import (
	"context"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// ChangeQuery is what [Look.Change] does to all runs or dead letters that match.
type ChangeQuery struct {
	Run    *broker.RunChange          // of runs; nil: the change is of dead letters
	States []broker.State             // of the runs
	Match  func(*broker.RunInfo) bool // of runs; nil: all match

	Dead      broker.DeadChange
	MatchDead func(*broker.DeadLetter) bool // nil: all match

	DryRun    bool          // counts what matches, and changes nothing
	PerSecond int           // changes no more on average; 0: as fast as it goes
	Progress  func(Changed) // is called after each page; nil: nobody is notified
}

// Changed is what a change did so far.
type Changed struct {
	Changed int // of a dry run: match
	Stayed  int
	Stays   []Stay         // the first MaxStays of these
	Whys    map[string]int // how many stayed for which reason, for the first MaxStays reasons
	Looked  int
	Total   int64 // runs or dead letters there were at the start, about
}

// MaxStays bounds the list of those that were not changed.
const MaxStays = 100

// Stay is a run or dead letter that matched and was not changed.
type Stay struct {
	Queue, ID, Why string
}

// Change changes all that match, queue by queue and page by page, until ctx ends. It returns
// what it did beside an error too.
func (l *Look) Change(ctx context.Context, c ChangeQuery) (Changed, error) {
	w := &changeSearch{l: l, c: c, began: time.Now(), done: Changed{Whys: make(map[string]int)}}
	var err error
	if w.searcher, err = l.fleet.searcher(); err == nil && !c.DryRun {
		w.changer, err = l.fleet.changer()
	}
	if err != nil {
		return Changed{}, err
	}
	states := []broker.State{""} // dead letters have none
	if c.Run != nil {
		states = slices.DeleteFunc(slices.Clone(LiveStates), func(s broker.State) bool { return !slices.Contains(c.States, s) })
	}
	infos, err := l.Infos(ctx)
	if err != nil {
		return Changed{}, err
	}
	for _, info := range infos {
		for _, state := range states {
			w.done.Total += countOf(info, state)
		}
	}
	for i, queue := range l.Queues {
		n := int64(0)
		for _, state := range states {
			n += countOf(infos[i], state)
		}
		if n == 0 {
			continue
		}
		for _, state := range states { // also those without a run just now, as runs move on
			if err = w.inQueue(ctx, queue, state, countOf(infos[i], state)); err != nil {
				break
			}
		}
		if w.endQueue(queue); err != nil {
			return w.done, err
		}
	}
	return w.done, l.failed()
}

// countOf returns how many runs of a queue are in a state, or how many dead letters it has.
func countOf(info *broker.QueueInfo, state broker.State) int64 {
	switch {
	case info == nil:
		return 0
	case state == broker.StateRunning:
		return info.Running
	case state == broker.StateQueued:
		return info.Queued
	case state == broker.StateDelayed:
		return info.Delayed
	}
	return info.Dead
}

// changeSearch is a change that goes on.
type changeSearch struct {
	l        *Look
	c        ChangeQuery
	searcher broker.Searcher
	changer  broker.Changer
	began    time.Time
	done     Changed
	stays    []broker.Stay // of the present queue
}

// inQueue changes what matches in one queue, of one state. It ends once it has looked at
// all that was there at the start, even if more keeps coming. An error is ctx's.
func (w *changeSearch) inQueue(ctx context.Context, queue string, state broker.State, there int64) error {
	looked := int64(0)
	for after := ""; ; {
		page, err := w.page(ctx, queue, state, after)
		if page != nil {
			w.add(page)
			looked += int64(page.Looked)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			w.l.skip(queue, err)
			return nil
		}
		if page.After == "" || page.After == after || looked > there+broker.MaxLook {
			return nil
		}
		after = page.After
		if err := w.pace(ctx); err != nil {
			return err
		}
	}
}

// add counts what a page did.
func (w *changeSearch) add(page *broker.ChangePage) {
	w.done.Changed += page.Changed
	w.done.Looked += page.Looked
	w.stays = append(w.stays, page.Stayed...)
	if w.c.Progress != nil {
		done := w.done
		done.Stayed += len(w.stays)
		w.c.Progress(done)
	}
}

// matchRun is the match of runs. A run that stayed as it has moved on to this state is
// changed now, or stays again.
func (w *changeSearch) matchRun(i *broker.RunInfo) bool {
	matches := w.c.Match == nil || w.c.Match(i)
	if matches {
		w.stays = slices.DeleteFunc(w.stays, func(s broker.Stay) bool { return s.ID == i.Run.ID })
	}
	return matches
}

// endQueue counts those that stayed in a queue.
func (w *changeSearch) endQueue(queue string) {
	w.done.Stayed += len(w.stays)
	for _, s := range w.stays[:min(len(w.stays), MaxStays-len(w.done.Stays))] {
		w.done.Stays = append(w.done.Stays, Stay{queue, s.ID, s.Why})
	}
	for _, s := range w.stays {
		if _, known := w.done.Whys[s.Why]; known || len(w.done.Whys) < MaxStays {
			w.done.Whys[s.Why]++
		}
	}
	w.stays = nil
}

// pace waits as long as the rate asks for.
func (w *changeSearch) pace(ctx context.Context) error {
	if w.c.PerSecond <= 0 || w.c.DryRun {
		return ctx.Err()
	}
	due := time.Duration(float64(w.done.Changed) / float64(w.c.PerSecond) * float64(time.Second))
	timer := time.NewTimer(time.Until(w.began.Add(due)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// page changes one page, or counts it.
func (w *changeSearch) page(ctx context.Context, queue string, state broker.State, after string) (*broker.ChangePage, error) {
	most := broker.MaxFound
	if w.c.PerSecond > 0 && !w.c.DryRun {
		most = min(most, w.c.PerSecond)
	}
	runs := broker.RunSearch{Match: w.c.Match, After: after, Max: most}
	if len(w.stays) > 0 {
		runs.Match = w.matchRun
	}
	dead := broker.DeadSearch{Match: w.c.MatchDead, After: after, Max: most}
	switch {
	case w.c.DryRun && w.c.Run != nil:
		page, err := w.searcher.FindRuns(ctx, queue, state, runs)
		if page == nil {
			return nil, err
		}
		return &broker.ChangePage{Changed: len(page.Runs), Looked: page.Looked, After: page.After}, err
	case w.c.DryRun:
		page, err := w.searcher.FindDead(ctx, queue, dead)
		if page == nil {
			return nil, err
		}
		return &broker.ChangePage{Changed: len(page.Letters), Looked: page.Looked, After: page.After}, err
	case w.c.Run != nil:
		return w.changer.ChangeRuns(ctx, queue, state, runs, *w.c.Run)
	}
	return w.changer.ChangeDead(ctx, queue, dead, w.c.Dead)
}
