package compat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/schema"
)

// Compare returns the changes from old to present tasks that break something or are worth
// a note, in the order of the old tasks. Version names the old version in messages. Beside
// are further tasks of the present version, which only take from queues.
func Compare(version string, old, present, beside []*Task) []Change {
	v := newVersions(version, old, present)
	var changes []Change
	for _, o := range old {
		c := &comparison{version: version, old: o, present: v.reader(o.Name, o.Dir)}
		if c.present == nil {
			c.gone(v)
		} else {
			c.names(v)
			c.params()
			c.result()
			c.policies()
		}
		changes = append(changes, c.changes...)
	}
	return append(changes, v.queues(beside)...)
}

// versions are the tasks of two versions.
type versions struct {
	version      string
	old, present []*Task
	byName       map[string][]*Task // of the present ones
	byAlias      map[string][]*Task
	oldDirs      map[string]map[string]bool // directories of the old tasks by name
	added        map[string][]string        // names of the tasks that are new, by the form of their parameters
}

func newVersions(version string, old, present []*Task) *versions {
	v := &versions{
		version: version, old: old, present: present,
		byName: map[string][]*Task{}, byAlias: map[string][]*Task{}, oldDirs: map[string]map[string]bool{},
	}
	for _, o := range old {
		if v.oldDirs[o.Name] == nil {
			v.oldDirs[o.Name] = map[string]bool{}
		}
		v.oldDirs[o.Name][o.Dir] = true
	}
	for _, t := range present {
		v.byName[t.Name] = append(v.byName[t.Name], t)
		for _, alias := range t.Aliases {
			v.byAlias[alias] = append(v.byAlias[alias], t)
		}
	}
	return v
}

// reader returns the present task that executes the runs of a name which a package in dir
// queued, or nil. Programs of one module may have tasks of one name: a task of another
// package that had the name before is another program's.
func (v *versions) reader(name, dir string) *Task {
	for _, tasks := range [][]*Task{v.byName[name], v.byAlias[name]} {
		for _, t := range tasks {
			if t.Dir == dir {
				return t
			}
		}
		for _, t := range tasks {
			if !v.oldDirs[name][t.Dir] {
				return t
			}
		}
	}
	return nil
}

// successors returns the new tasks that o may have become.
func (v *versions) successors(o *Task) []string {
	if v.added == nil {
		v.added = map[string][]string{}
		for _, t := range v.present {
			if v.oldDirs[t.Name] == nil {
				form := schema.Params(t.Params)
				v.added[form] = append(v.added[form], t.Name)
			}
		}
	}
	return v.added[schema.Params(o.Params)]
}

// comparison compares one task.
type comparison struct {
	version      string
	old, present *Task
	changes      []Change
}

func (c *comparison) breaks(format string, args ...any) { c.add(false, fmt.Sprintf(format, args...)) }

func (c *comparison) note(format string, args ...any) { c.add(true, fmt.Sprintf(format, args...)) }

func (c *comparison) add(note bool, message string) {
	c.changes = append(c.changes, Change{New: c.present, Old: c.old, Note: note, Message: message})
}

// gone reports a removed task, and the new task that it may have become.
func (c *comparison) gone(v *versions) {
	names := []string{c.old.Name}
	for _, alias := range c.old.Aliases {
		if v.reader(alias, c.old.Dir) == nil {
			names = append(names, alias)
		}
	}
	alias := "//task:alias " + strings.Join(names, " and //task:alias ")
	hint := fmt.Sprintf("keep it, or add %s to the task that replaces it", alias)
	if successors := v.successors(c.old); len(successors) == 1 {
		hint = fmt.Sprintf("if %s is its new name, add %s there", successors[0], alias)
	}
	c.breaks("task %s of %s is gone: nothing would execute its queued runs; %s", c.old.Name, c.version, hint)
}

// names reports the aliases of the old task that its successor has no more.
func (c *comparison) names(v *versions) {
	for _, alias := range c.old.Aliases {
		switch reader := v.reader(alias, c.old.Dir); {
		case reader == nil:
			c.note("task %s: its alias %s is gone: nothing would execute the runs that versions before %s queued under it, also those that wait for a retry, or the ticks of their schedules made at run time; keep //task:alias %s until none are left",
				c.present.Name, alias, c.version, alias)
		case reader != c.present:
			c.note("task %s: its alias %s is task %s now, which would execute the runs that versions before %s queued under it; let those end first",
				c.present.Name, alias, reader.Name, c.version)
		}
	}
}

func (c *comparison) params() {
	r := reading{version: c.version, written: "runs queued by " + c.version, ticks: c.old.Ticks}
	r.fields("", c.old.Params, c.present.Params)
	c.report(r.found)
}

// result compares the results both ways. Records are kept that the old version wrote, and
// its processes wait for results that the present one writes. Without a record, nobody
// does.
func (c *comparison) result() {
	was, is := c.old.Result, c.present.Result
	switch {
	case !c.old.Keeps || was == nil && is == nil:
	case was == nil:
		c.breaks("task %s: the result is new: records kept by %s hold none; wait until they have expired, or make it a task of another name", c.present.Name, c.version)
	case is == nil:
		c.breaks("task %s: the result, %s, is gone: callers of %s that wait for one would find none; keep it until none are left", c.present.Name, was, c.version)
	default:
		kept := reading{version: c.version, written: "results kept by " + c.version, result: true}
		if fit := kept.reads(was, is, ""); fit != fits {
			kept.add("", "the result was %s and is %s: %s; %s", was, is, kept.loss(was, is), retypeHint(was, is))
		}
		c.report(kept.found)
		awaited := awaiting{version: c.version, known: kept.paths()}
		awaited.whole(was, is)
		c.report(awaited.found)
	}
}

func (c *comparison) report(found []finding) {
	var said []string
	broken := (&reading{found: found}).paths()
	for _, f := range found {
		if !slices.Contains(said, f.text) && !(f.note && broken[f.path]) {
			said = append(said, f.text)
			c.add(f.note, "task "+c.present.Name+": "+f.text)
		}
	}
}
