// Package trees is a test application: calls of random shape, whose results say how their runs
// ended. Its consumers are killed.
package trees

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Tree is a call of some shape.
type Tree struct {
	Name  string // of its last run, and in all trees of a test
	Queue string // of that run
	How   string // what becomes of that run: "" it succeeds, "fails", "dies"

	First      []Tree // of a chain: what comes before the last run, one or none
	Members    []Tree // of a group, which the last run gathers
	SkipFailed bool   // the group's
	Returned   []Tree // the call that the last run returns, one or none
}

// Ledger is where each start of a run is noted.
type Ledger struct{ File string }

// note appends a start, and does what becomes of the run.
func (l *Ledger) note(ctx context.Context, name, how string) error {
	f, err := os.OpenFile(l.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	run, _ := taskrt.CurrentRun(ctx)
	_, err = fmt.Fprintln(f, name, run.ID)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	switch how {
	case "fails":
		return taskrt.Permanent(fmt.Errorf("%s fails", name))
	case "dies":
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		return self.Kill()
	}
	return nil
}

// Leaf returns its name.
//
//task:io
//task:result 1h
func (l *Ledger) Leaf(ctx context.Context, name, how string) (string, error) {
	return name, l.note(ctx, name, how)
}

// Poison is Leaf in a child process, which can die.
//
//task:cpu
//task:result 1h
//task:retry 3 backoff=10ms..100ms
func (l *Ledger) Poison(ctx context.Context, name, how string) (string, error) {
	return name, l.note(ctx, name, how)
}

// Step follows another run, and returns both names.
//
//task:io
//task:result 1h
func (l *Ledger) Step(ctx context.Context, before, name, how string) (string, error) {
	return before + ">" + name, l.note(ctx, name, how)
}

// Join gathers a group.
//
//task:io
//task:result 1h
func (l *Ledger) Join(ctx context.Context, parts []string, name, how string) (string, error) {
	return name + "(" + strings.Join(parts, " ") + ")", l.note(ctx, name, how)
}

// Expand returns a tree as a call.
//
//task:io
//task:result 1h
func (l *Ledger) Expand(ctx context.Context, tree Tree) (taskrt.Call[string], error) {
	return tree.Returned[0].Call(), l.note(ctx, tree.Name, tree.How)
}

// Call makes the call of the tree.
func (t Tree) Call() taskrt.Call[string] {
	on := taskrt.OnQueue(t.Queue)
	switch {
	case len(t.First) > 0:
		return taskrt.Then(t.First[0].Call(), NextLedgerStep(t.Name, t.How).With(on))
	case len(t.Members) > 0:
		members := make([]taskrt.Call[string], len(t.Members))
		for i, m := range t.Members {
			members[i] = m.Call()
		}
		next := NextLedgerJoin(t.Name, t.How).With(on)
		if t.SkipFailed {
			next = next.With(taskrt.SkipFailed())
		}
		return taskrt.Group(members, next)
	case len(t.Returned) > 0:
		return CallLedgerExpand(t).With(on)
	case t.How == "dies":
		return CallLedgerPoison(t.Name, t.How).With(on)
	}
	return CallLedgerLeaf(t.Name, t.How).With(on)
}

// Want returns the result that the tree has without any faults, and whether it succeeds.
func (t Tree) Want() (result string, succeeds bool) {
	before := ""
	switch {
	case len(t.First) > 0:
		if before, succeeds = t.First[0].Want(); !succeeds {
			return "", false
		}
		before += ">" + t.Name
	case len(t.Members) > 0:
		var parts []string
		for _, m := range t.Members {
			part, ok := m.Want()
			if ok {
				parts = append(parts, part)
			} else if !t.SkipFailed {
				return "", false
			}
		}
		before = t.Name + "(" + strings.Join(parts, " ") + ")"
	case len(t.Returned) > 0:
		before, succeeds = t.Returned[0].Want()
		return before, succeeds && t.How == ""
	default:
		before = t.Name
	}
	return before, t.How == ""
}

// Runs returns the names of the runs of the tree that begin without any faults.
func (t Tree) Runs() (names []string) {
	begins := true
	for _, first := range t.First {
		names = append(names, first.Runs()...)
		_, begins = first.Want()
	}
	for _, m := range t.Members {
		names = append(names, m.Runs()...)
		_, succeeds := m.Want()
		begins = begins && (succeeds || t.SkipFailed)
	}
	if begins {
		names = append(names, t.Name)
	}
	if t.How == "" {
		for _, r := range t.Returned {
			names = append(names, r.Runs()...)
		}
	}
	return names
}

// Queues are those of the trees.
var Queues = map[string]int{"north": 1, "south": 1, "west": 1}

// Random makes a tree with so many levels at most, and some more runs at most. The last run of the
// whole tree succeeds.
func Random(r *rand.Rand, name string, depth, runs int) Tree {
	t := random(r, name, depth, &runs)
	t.How = ""
	return t
}

func random(r *rand.Rand, name string, depth int, left *int) Tree {
	*left--
	t := Tree{Name: name, Queue: []string{"north", "south", "west"}[r.IntN(3)]}
	switch n := r.IntN(100); {
	case n < 5:
		t.How = "fails"
	case n < 6:
		t.How = "dies"
	}
	if depth <= 1 || *left <= 0 {
		return t
	}
	if t.How == "dies" {
		t.How = "fails" // only what has no others around it dies
	}
	inner := func(i int) Tree { return random(r, fmt.Sprint(name, ".", i), depth-1, left) }
	switch n := r.IntN(10); {
	case n < 3:
		t.First = []Tree{inner(0)}
	case n < 8:
		for i := range 1 + r.IntN(8) {
			t.Members = append(t.Members, inner(i))
		}
		t.SkipFailed = r.IntN(2) == 0
	default:
		t.Returned = []Tree{inner(0)}
	}
	return t
}
