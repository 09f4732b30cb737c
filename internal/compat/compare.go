package compat

import (
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/internal/schema"
)

// Compare returns the changes from old to present tasks that break something, in the
// order of the old tasks. Version names the old version in messages.
func Compare(version string, old, present []*Task) []Change {
	byName := map[string]*Task{}
	for _, t := range present {
		for _, alias := range t.Aliases {
			byName[alias] = t
		}
	}
	for _, t := range present {
		byName[t.Name] = t
	}
	var changes []Change
	for _, o := range old {
		c := &comparison{version: version, old: o, present: byName[o.Name]}
		if c.present == nil {
			c.gone(old, present)
		} else {
			c.params()
			c.result()
		}
		changes = append(changes, c.changes...)
	}
	return changes
}

// comparison compares one task.
type comparison struct {
	version      string
	old, present *Task
	changes      []Change
}

func (c *comparison) breaks(format string, args ...any) {
	c.changes = append(c.changes, Change{New: c.present, Old: c.old, Message: fmt.Sprintf(format, args...)})
}

// gone reports a removed task, and the new tasks that it may have become.
func (c *comparison) gone(old, present []*Task) {
	hint := fmt.Sprintf("keep it, or add //task:alias %s to the task that replaces it", c.old.Name)
	var successors []string
	for _, t := range present {
		isNew := !slices.ContainsFunc(old, func(o *Task) bool { return o.Name == t.Name })
		if isNew && schema.Params(t.Params) == schema.Params(c.old.Params) {
			successors = append(successors, t.Name)
		}
	}
	if len(successors) == 1 {
		hint = fmt.Sprintf("if %s is its new name, add //task:alias %s there", successors[0], c.old.Name)
	}
	c.breaks("task %s of %s is gone: nothing would execute its queued runs; %s", c.old.Name, c.version, hint)
}

func (c *comparison) params() {
	r := reading{version: c.version, written: "runs queued by " + c.version, ticks: c.old.Ticks}
	r.fields("", c.old.Params, c.present.Params)
	c.report(r.found)
}

func (c *comparison) result() {
	was, is := c.old.Result, c.present.Result
	switch {
	case was == nil && is == nil:
	case was == nil:
		if c.old.Keeps {
			c.breaks("task %s: the result is new: records kept by %s hold none; wait until they have expired, or make it a task of another name", c.present.Name, c.version)
		}
	case is == nil:
		c.breaks("task %s: the result, %s, is gone: callers of %s that wait for one would find none; keep it until none are left", c.present.Name, was, c.version)
	default:
		r := reading{version: c.version, written: "results kept by " + c.version, result: true}
		if !r.reads(was, is, "") {
			r.add("the result was %s and is %s: %s could not be read; %s", was, is, r.written, retypeHint(was, is))
		}
		c.report(r.found)
	}
}

func (c *comparison) report(found []string) {
	for _, message := range found {
		c.breaks("task %s: %s", c.present.Name, message)
	}
}

// reading compares the values that the old version wrote with those that the present
// one reads.
type reading struct {
	version string
	written string // the old values in messages: "runs queued by v1"
	result  bool   // they are results, not parameters
	ticks   bool   // a schedule queues runs without parameters
	found   []string
	met     [][2]*schema.Type // pairs that are being compared or were compared
}

func (r *reading) add(format string, args ...any) {
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

// name returns a field's name for messages: parameter "by", or its field by.age.
func (r *reading) name(path, key string) string {
	switch {
	case r.result:
		return "result field " + join(path, key)
	case path != "":
		return "field " + join(path, key)
	}
	return fmt.Sprintf("parameter %q", key)
}

// fields compares the fields of a struct or a task's parameters. Their order does not
// matter.
func (r *reading) fields(path string, old, present []schema.Field) {
	read := map[string]bool{} // keys of present fields that read an old one
	for _, o := range old {
		p, ok := reader(o.Key, present)
		if !ok {
			r.removed(path, o, old, present)
			continue
		}
		read[p.Key] = true
		what := r.name(path, p.Key)
		if (o.Optional || r.ticks && path == "") && !p.Dispensable() {
			r.add("%s is required now: %s may lack it; %s", what, r.written, r.missingHint(path, p))
		}
		if !r.reads(o.Type, p.Type, join(path, p.Key)) {
			r.add("%s was %s and is %s: %s could not be read; %s", what, o.Type, p.Type, r.written, r.retypeHint(path, o, p))
		}
	}
	for _, p := range present {
		if !read[p.Key] && !p.Dispensable() {
			r.add("%s is new and required: %s lack it; %s", r.name(path, p.Key), r.written, r.missingHint(path, p))
		}
	}
}

// reader returns the field that reads a key. A field of that name wins over one that was
// renamed from it.
func reader(key string, fields []schema.Field) (schema.Field, bool) {
	for _, f := range fields {
		if f.Key == key {
			return f, true
		}
	}
	for _, f := range fields {
		if slices.Contains(f.Old, key) {
			return f, true
		}
	}
	return schema.Field{}, false
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// removed reports a field that is no longer read. The field of a result matters only to
// callers with the old code that wait for the result and require the field.
func (r *reading) removed(path string, o schema.Field, old, present []schema.Field) {
	what := r.name(path, o.Key)
	if r.result {
		if !o.Dispensable() {
			r.add("%s is gone: callers of %s that wait for the result would miss it; keep it until none are left", what, r.version)
		}
		return
	}
	hint := "keep it, unused, until no such run is left"
	if successors := successors(o, old, present); path == "" && len(successors) == 1 {
		hint = fmt.Sprintf("if its new name is %s, add //task:rename %s from=%s", successors[0], successors[0], o.Key)
	}
	r.add("%s is gone: its values in %s would be dropped; %s", what, r.written, hint)
}

// successors returns the new fields that could read the values of o.
func successors(o schema.Field, old, present []schema.Field) []string {
	var names []string
	for _, p := range present {
		_, known := reader(p.Key, old)
		again := reading{}
		if !known && again.reads(o.Type, p.Type, "") && len(again.found) == 0 {
			names = append(names, p.Key)
		}
	}
	return names
}

// missingHint returns how to make a field optional.
func (r *reading) missingHint(path string, p schema.Field) string {
	if path == "" && !r.result {
		return fmt.Sprintf("add //task:default %s with a value, or make it a pointer", p.Key)
	}
	return "make it a pointer, or give it the tag option omitempty"
}

// retypeHint returns how to change a type safely.
func (r *reading) retypeHint(path string, o, p schema.Field) string {
	if path == "" && !r.result && o.Type.Kind != schema.Pointer {
		return fmt.Sprintf("keep the type, or add a parameter of another name, with //task:default, next to %s", p.Key)
	}
	return retypeHint(o.Type, p.Type)
}

func retypeHint(was, is *schema.Type) string {
	if was.Kind == schema.Pointer && is.Kind != schema.Pointer {
		return "keep the pointer: it may be nil there"
	}
	return "keep the type, or add what is new under another name"
}
