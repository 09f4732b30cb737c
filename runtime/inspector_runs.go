package runtime

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/inspect"
	"github.com/taskgen/taskgen/internal/text"
)

// RunFilter chooses runs and dead letters. Its zero value chooses all.
type RunFilter struct {
	Queues []string // those of these queues; empty: of all that are known
	States []State  // of runs: those in these states; empty: in any. Dead letters have none

	Task string      // those of this task, under any of its names; it need not be one of the inspector's
	Tag  string      // those of the inspector's tasks that have this tag
	Kind FailureKind // those whose last failure was of this kind

	// Error is a part of why they failed, in upper or lower case: of the kind or the text
	// of the last failure, or of any attempt.
	Error string

	// Alike is the Error of a [DeadGroup]: those whose last failure reads so, but for numbers
	// and ids.
	Alike string

	// Key is the beginning of the id, or the whole unique key, or the whole id of the
	// parent, of the root or of a group of the run. Of runs that have ended, and are no dead
	// letters, only the id is known.
	Key string

	IDs []string // those with these ids; empty: with any

	// Since and Before bound when a run was queued or, if it has ended, when it ended.
	// Runs of which that is unknown are not chosen. Zero: no bound.
	Since, Before time.Time
}

// PageOptions say where a page begins, and how much there is on it.
type PageOptions struct {
	After string // the After of the page before; empty: from the beginning
	Max   int    // so many at most. Defaults to 1000 (broker.MaxFound), which is the most

	// Look is about how many runs are looked at to find them; of dead letters, how many of
	// each queue. Defaults to 10,000 (broker.MaxLook), which is the most.
	Look int
}

// ErrAfter: the After of [PageOptions] is not that of a page of the same list.
var ErrAfter = broker.ErrAfter

// RunPage is a page of runs.
type RunPage struct {
	Runs    []*broker.RunInfo
	Looked  int    // runs that were looked at for this page
	Total   int64  // runs there are in the states and queues of the filter, about; -1: unknown
	After   string // where the next page begins, for [PageOptions]; empty: there is none
	Skipped []Skipped
}

// Runs returns a page of runs: those that run, then those that are queued, are delayed, have
// failed, were cancelled and have succeeded, each queue by queue. Those that have ended are
// listed if they have a record, the newest first within the page.
//
// The page can be empty, and another follow, if none of those that were looked at matches.
// A run that changes its state or its place between two pages can be missing or be on both.
func (i *Inspector) Runs(ctx context.Context, f RunFilter, o PageOptions) (*RunPage, error) {
	m, l, err := i.look(ctx, &f)
	if err != nil {
		return nil, err
	}
	found, err := l.Runs(ctx, inspect.RunQuery{States: f.States, Match: m.run(), After: o.After, Max: o.Max, Look: o.Look})
	if err != nil {
		return nil, err
	}
	return &RunPage{found.Runs, found.Looked, found.Total, found.After, skippedOf(l)}, nil
}

// DeadLetter is a dead letter and its queue.
type DeadLetter struct {
	Queue string
	*broker.DeadLetter
}

// DeadPage is a page of dead letters.
type DeadPage struct {
	Letters []DeadLetter
	Looked  int
	Total   int64 // dead letters there are in the queues of the filter
	After   string
	Skipped []Skipped
}

// Dead returns a page of dead letters, the newest first. If one comes after the first page it
// is on none.
func (i *Inspector) Dead(ctx context.Context, f RunFilter, o PageOptions) (*DeadPage, error) {
	m, l, err := i.look(ctx, &f)
	if err != nil {
		return nil, err
	}
	found, err := l.Dead(ctx, inspect.DeadQuery{Match: m.letter(), After: o.After, Max: o.Max, Look: o.Look})
	if err != nil {
		return nil, err
	}
	page := &DeadPage{Looked: found.Looked, Total: found.Total, After: found.After, Skipped: skippedOf(l)}
	for _, letter := range found.Letters {
		page.Letters = append(page.Letters, DeadLetter(letter))
	}
	return page, nil
}

// ChangeOptions say how a change of all that match goes on. The zero value changes them as
// fast as the broker can.
type ChangeOptions struct {
	DryRun    bool // counts what matches, and changes nothing
	PerSecond int  // changes no more on average; 0: no limit

	// Progress is called after each page, of up to 10,000 that were looked at. It is called
	// by one goroutine, and the change waits for its return. Defaults to none.
	Progress func(Changes)
}

// Changes are what a change did so far.
type Changes struct {
	Changed int          // of a dry run: that match
	Stayed  int          // that match, and could not be changed
	Stays   []Stay       // the first 100 of these
	Reasons []StayReason // why they stayed, the most frequent first; at most 100
	Looked  int
	Total   int64 // how many there were to look at, about
}

// Stay is a run or dead letter that matched a filter and was not changed.
type Stay struct {
	Queue, ID string
	Why       string // such as "its id is that of a live run"
}

// StayReason is for how many runs or dead letters a change has found the same Why.
type StayReason struct {
	Why   string
	Count int
}

// ChangeResult is what a change did in all.
type ChangeResult struct {
	Changes
	Missing []string // of the IDs of the filter: those that no queue has
	Skipped []Skipped
}

// CancelAll cancels all runs that match and have not ended, as [Inspector.Cancel] does. Those
// that run are counted as changed once their consumers will learn of it. Runs that are queued
// meanwhile may be cancelled or not. If ctx ends, CancelAll returns its error, and beside it
// what was done until then; so do the other changes of all.
func (i *Inspector) CancelAll(ctx context.Context, f RunFilter, o ChangeOptions) (*ChangeResult, error) {
	failure := &broker.Failure{Kind: Cancelled, Message: onRequest}
	return i.change(ctx, "cancel runs", f, o, inspect.ChangeQuery{Run: &broker.RunChange{Cancel: failure}, States: f.States})
}

// RunNow makes all delayed runs that match due at once; their attempts stay as they are. The
// States of the filter are ignored.
func (i *Inspector) RunNow(ctx context.Context, f RunFilter, o ChangeOptions) (*ChangeResult, error) {
	return i.change(ctx, "make runs due", f, o, inspect.ChangeQuery{Run: &broker.RunChange{RunNow: true}, States: []State{broker.StateDelayed}})
}

// Requeue queues all dead letters that match again, each as a new run with all its attempts.
// A dead letter stays if a live run has its id or its unique key, or if it cannot be read.
func (i *Inspector) Requeue(ctx context.Context, f RunFilter, o ChangeOptions) (*ChangeResult, error) {
	return i.change(ctx, "requeue dead letters", f, o, inspect.ChangeQuery{Dead: broker.Requeue})
}

// Delete deletes all dead letters that match.
func (i *Inspector) Delete(ctx context.Context, f RunFilter, o ChangeOptions) (*ChangeResult, error) {
	return i.change(ctx, "delete dead letters", f, o, inspect.ChangeQuery{Dead: broker.Delete})
}

func (i *Inspector) change(ctx context.Context, what string, f RunFilter, o ChangeOptions, c inspect.ChangeQuery) (*ChangeResult, error) {
	m, l, err := i.look(ctx, &f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if c.Run != nil && len(c.States) == 0 {
		c.States = inspect.LiveStates
	}
	if c.Run != nil && !slices.ContainsFunc(c.States, func(s State) bool { return slices.Contains(inspect.LiveStates, s) }) {
		return nil, fmt.Errorf("%s: those in state %s have ended", what, c.States[0])
	}
	c.Match, c.MatchDead, c.DryRun, c.PerSecond = m.run(), m.letter(), o.DryRun, o.PerSecond
	if o.Progress != nil {
		c.Progress = func(done inspect.Changed) { o.Progress(changesOf(done)) }
	}
	done, err := l.Change(ctx, c)
	result := &ChangeResult{Changes: changesOf(done), Missing: m.missing(), Skipped: skippedOf(l)}
	if err != nil {
		return result, fmt.Errorf("%s: %w", what, err)
	}
	return result, nil
}

func changesOf(done inspect.Changed) Changes {
	c := Changes{Changed: done.Changed, Stayed: done.Stayed, Looked: done.Looked, Total: done.Total}
	for _, s := range done.Stays {
		c.Stays = append(c.Stays, Stay(s))
	}
	for why, n := range done.Whys {
		c.Reasons = append(c.Reasons, StayReason{why, n})
	}
	slices.SortFunc(c.Reasons, func(a, b StayReason) int { return cmp.Or(b.Count-a.Count, cmp.Compare(a.Why, b.Why)) })
	return c
}

// look begins a look for what matches a filter.
func (i *Inspector) look(ctx context.Context, f *RunFilter) (*matcher, *inspect.Look, error) {
	m, err := i.matcher(f)
	if err != nil {
		return nil, nil, err
	}
	l, err := i.fleet.Look(ctx, f.Queues...)
	return m, l, err
}

// matcher finds the runs of a filter.
type matcher struct {
	*RunFilter
	names []string                // of tasks; nil: any
	error string                  // in lower case
	ids   map[string]*atomic.Bool // whether it was found
}

// matcher returns the matcher of a filter. It refuses a tag that no task has.
func (i *Inspector) matcher(f *RunFilter) (*matcher, error) {
	m := &matcher{RunFilter: f, error: strings.ToLower(f.Error)}
	if f.Task != "" {
		m.names = i.namesOf(f.Task)
	}
	if f.Tag != "" {
		tagged, err := i.tagged(f.Tag)
		if err != nil {
			return nil, err
		}
		if f.Task != "" {
			tagged = slices.DeleteFunc(tagged, func(name string) bool { return !slices.Contains(m.names, name) })
		}
		m.names = append([]string{}, tagged...)
	}
	if len(f.IDs) > 0 {
		m.ids = make(map[string]*atomic.Bool, len(f.IDs))
		for _, id := range f.IDs {
			m.ids[id] = new(atomic.Bool)
		}
	}
	return m, nil
}

// tagged returns the names of the tasks that have a tag.
func (i *Inspector) tagged(tag string) (names []string, err error) {
	var known []string
	for _, t := range i.tasks.list {
		known = append(known, t.spec.Tags...)
		if slices.Contains(t.spec.Tags, tag) {
			names = append(names, i.namesOf(t.spec.Name)...)
		}
	}
	if names != nil {
		return names, nil
	}
	slices.Sort(known)
	if known = slices.Compact(known); len(known) == 0 {
		return nil, fmt.Errorf("no task has the tag %.64q, nor any other; //task:tags gives tags to a task", tag)
	}
	return nil, fmt.Errorf("no task has the tag %.64q; known are %s", tag, text.List(known, 20))
}

// choosesAll reports whether all runs match.
func (m *matcher) choosesAll() bool {
	f := m.RunFilter
	return m.names == nil && f.Kind == "" && m.error == "" && f.Alike == "" && f.Key == "" && m.ids == nil && f.Since.IsZero() && f.Before.IsZero()
}

// run returns the match of runs, nil if all match.
func (m *matcher) run() func(*broker.RunInfo) bool {
	if m.choosesAll() {
		return nil
	}
	return func(i *broker.RunInfo) bool {
		at := i.Run.QueuedAt
		if i.State.Ended() {
			at = i.Ended
		}
		return m.matches(i.Run.ID, i.Run, i.Failure, at)
	}
}

// letter returns the match of dead letters, nil if all match.
func (m *matcher) letter() func(*broker.DeadLetter) bool {
	if m.choosesAll() {
		return nil
	}
	return func(l *broker.DeadLetter) bool { return m.matches(l.ID, l.Run, &l.Failure, l.At) }
}

// matches reports whether a run matches. run is nil if its bytes cannot be read.
func (m *matcher) matches(id string, run *broker.TaskRun, failure *broker.Failure, at time.Time) bool {
	switch {
	case m.names != nil && (run == nil || !slices.Contains(m.names, run.Task)),
		m.Kind != "" && (failure == nil || failure.Kind != m.Kind),
		!m.Since.IsZero() && (at.IsZero() || at.Before(m.Since)),
		!m.Before.IsZero() && (at.IsZero() || !at.Before(m.Before)),
		m.Key != "" && !m.hasKey(id, run),
		m.error != "" && !m.hasError(run, failure),
		m.Alike != "" && (failure == nil || text.Fold(failure.Message) != m.Alike):
		return false
	}
	if m.ids == nil {
		return true
	}
	found, wanted := m.ids[id]
	if wanted {
		found.Store(true)
	}
	return wanted
}

func (m *matcher) hasKey(id string, run *broker.TaskRun) bool {
	if strings.HasPrefix(id, m.Key) {
		return true
	}
	if run == nil {
		return false
	}
	links := run.Links.OrZero()
	return slices.Contains([]string{run.Rules.OrZero().Unique, run.ParentID, run.RootID, links.Group, links.Awaits.ID}, m.Key)
}

func (m *matcher) hasError(run *broker.TaskRun, failure *broker.Failure) bool {
	has := func(kind FailureKind, message string) bool {
		return strings.Contains(strings.ToLower(message), m.error) || strings.Contains(string(kind), m.error)
	}
	if failure != nil && has(failure.Kind, failure.Message) {
		return true
	}
	return run != nil && slices.ContainsFunc(run.History.OrZero().Attempts, func(a broker.Attempt) bool { return has(a.Kind, a.Message) })
}

// missing returns the ids that were asked for and not found.
func (m *matcher) missing() (ids []string) {
	for id, found := range m.ids {
		if !found.Load() {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
