package runtime

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/inspect"
	"github.com/taskgen/taskgen/internal/text"
)

// DeadGroup is dead letters of one task that failed alike.
type DeadGroup struct {
	Task  string // empty: their bytes cannot be read
	Kind  FailureKind
	Error string // the first line of why, with each number and id as #

	Count  int
	First  time.Time // when the oldest of these failed; zero: unknown
	Last   time.Time
	Sample *broker.DeadLetter // the newest
}

// DeadGroups are what [Inspector.DeadGroups] found.
type DeadGroups struct {
	Groups  []DeadGroup // those with the most letters first
	Others  int         // letters of further groups: there were too many
	Looked  int         // letters that were looked at: the newest of each queue
	Total   int64       // dead letters there are in the queues of the filter
	Skipped []Skipped
}

// maxDeadGroups bounds the groups of [Inspector.DeadGroups].
const maxDeadGroups = 1000

// DeadGroups groups the dead letters that match by their tasks and by why they failed. It
// looks at the newest, up to about look in all; 0 is 10,000 (broker.MaxLook), which is the
// most. Those of a group are chosen by Task, Kind and Alike of [RunFilter].
func (i *Inspector) DeadGroups(ctx context.Context, f RunFilter, look int) (*DeadGroups, error) {
	m, l, err := i.look(ctx, &f)
	if err != nil {
		return nil, fmt.Errorf("group dead letters: %w", err)
	}
	if look <= 0 || look > broker.MaxLook {
		look = broker.MaxLook
	}
	g := &deadGrouper{groups: make(map[deadGroupKey]*DeadGroup), matches: m.letter()}
	found, err := l.Dead(ctx, inspect.DeadQuery{Match: g.add, LookInAll: look})
	if err != nil {
		return nil, fmt.Errorf("group dead letters: %w", err)
	}
	all := &DeadGroups{Others: g.others, Looked: found.Looked, Total: found.Total, Skipped: skippedOf(l)}
	for _, group := range g.groups {
		all.Groups = append(all.Groups, *group)
	}
	slices.SortFunc(all.Groups, func(a, b DeadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), b.Last.Compare(a.Last), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Error, b.Error))
	})
	return all, nil
}

type deadGroupKey struct {
	task  string
	kind  FailureKind
	error string
}

// deadGrouper counts letters, and keeps none but the newest of each group.
type deadGrouper struct {
	matches func(*broker.DeadLetter) bool // nil: all

	mu     sync.Mutex
	groups map[deadGroupKey]*DeadGroup
	others int
}

// add adds a letter. It returns false, as nobody needs the letter again.
func (g *deadGrouper) add(letter *broker.DeadLetter) bool {
	if g.matches != nil && !g.matches(letter) {
		return false
	}
	key := deadGroupKey{kind: letter.Failure.Kind, error: text.Fold(letter.Failure.Message)}
	if letter.Run != nil {
		key.task = letter.Run.Task
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	group := g.groups[key]
	switch {
	case group == nil && len(g.groups) >= maxDeadGroups:
		g.others++
		return false
	case group == nil:
		group = &DeadGroup{Task: key.task, Kind: key.kind, Error: key.error, Sample: letter, First: letter.At, Last: letter.At}
		g.groups[key] = group
	}
	group.Count++
	if !letter.At.IsZero() && (group.First.IsZero() || letter.At.Before(group.First)) {
		group.First = letter.At
	}
	if letter.At.After(group.Last) {
		group.Last, group.Sample = letter.At, letter
	}
	return false
}
