package taskapp

import (
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/internal/suggest"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// task is a task as the command line shows it and fills in its parameters.
type task struct{ taskrt.Task }

// taskSet is the tasks of the program.
type taskSet struct {
	list   []*task          // in the order of their names
	byName map[string]*task // aliases included
}

func newTaskSet(sets [][]taskrt.Task) (taskSet, error) {
	tasks, err := taskrt.MergeTasks(sets...)
	if err != nil {
		return taskSet{}, err
	}
	s := taskSet{byName: make(map[string]*task)}
	for _, t := range tasks {
		t := &task{t}
		s.list = append(s.list, t)
		for _, name := range t.names() {
			s.byName[name] = t
		}
	}
	return s, nil
}

// plain returns the tasks as package taskrt takes them.
func (s taskSet) plain() (tasks []taskrt.Task) {
	for _, t := range s.list {
		tasks = append(tasks, t.Task)
	}
	return tasks
}

// tags returns the tags of the tasks, sorted.
func (s taskSet) tags() (tags []string) {
	for _, t := range s.list {
		tags = append(tags, t.Spec().Tags...)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// names returns the names under which runs of the task can be queued, its own first.
func (t *task) names() []string {
	spec := t.Spec()
	return append([]string{spec.Name}, spec.Aliases...)
}

// has reports whether there is a task of that kind.
func (s taskSet) has(kind taskrt.Kind) bool {
	return slices.ContainsFunc(s.list, func(t *task) bool { return t.Spec().Kind == kind })
}

// didYouMean returns the end of an error about an unknown word: the known word that was
// most likely meant, or otherwise if there is none.
func didYouMean(word string, known []string, otherwise string) string {
	if near := closest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return otherwise
}

// closest returns the word of known that word is most likely a misspelling of, or
// "" when none is near.
func closest(word string, known []string) string {
	return suggest.Closest(word, known, 1+len(word)/8)
}
