package runtime

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// taskSet is the tasks that a process knows.
type taskSet struct {
	list   []*Task          // in the order of their names
	byName map[string]*Task // aliases included
}

// MergeTasks returns the tasks of all sets in the order of their names. It returns an
// error if two of them share a name or an alias.
func MergeTasks(sets ...[]Task) ([]Task, error) {
	s, err := newTaskSet(sets)
	if err != nil {
		return nil, err
	}
	tasks := make([]Task, len(s.list))
	for i, t := range s.list {
		tasks[i] = *t
	}
	return tasks, nil
}

// newTaskSet refuses two tasks under one name.
func newTaskSet(sets [][]Task) (taskSet, error) {
	s := taskSet{byName: make(map[string]*Task)}
	for _, set := range sets {
		for i := range set {
			t := &set[i]
			for _, name := range append([]string{t.spec.Name}, t.spec.Aliases...) {
				if other, ok := s.byName[name]; ok {
					return taskSet{}, fmt.Errorf("two tasks are named %q: %q and %q; give one another //task:name", name, summary(other), summary(t))
				}
				s.byName[name] = t
			}
			s.list = append(s.list, t)
		}
	}
	slices.SortFunc(s.list, func(a, b *Task) int { return cmp.Compare(a.spec.Name, b.spec.Name) })
	return s, nil
}

// summary is the first sentence of what a task's doc says.
func summary(t *Task) string {
	first, _, _ := strings.Cut(t.spec.Doc, ".")
	return strings.Join(strings.Fields(first), " ")
}

// has reports whether there is a task of that kind.
func (s taskSet) has(kind Kind) bool {
	return slices.ContainsFunc(s.list, func(t *Task) bool { return t.spec.Kind == kind })
}
