package compat

import (
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/internal/schema"
)

// Compare returns the changes from old to present tasks that break something,
// in the order of the old tasks. The name of the old version is for messages.
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

// comparison is of one task.
type comparison struct {
	version      string
	old, present *Task
	changes      []Change
}

func (c *comparison) breaks(format string, args ...any) {
	c.changes = append(c.changes, Change{New: c.present, Old: c.old, Message: fmt.Sprintf(format, args...)})
}

// gone reports a task of which nothing is left, and which of the new ones it
// may have become.
func (c *comparison) gone(old, present []*Task) {
	hint := fmt.Sprintf("keep it, or add //task:alias %s to the task that does its work now", c.old.Name)
	var heirs []string
	for _, t := range present {
		isNew := !slices.ContainsFunc(old, func(o *Task) bool { return o.Name == t.Name })
		if isNew && schema.Params(t.Params) == schema.Params(c.old.Params) {
			heirs = append(heirs, t.Name)
		}
	}
	if len(heirs) == 1 {
		hint = fmt.Sprintf("if %s is its new name, add //task:alias %s there", heirs[0], c.old.Name)
	}
	c.breaks("task %s of %s is gone: its queued runs would find nothing to run them; %s", c.old.Name, c.version, hint)
}

func (c *comparison) params() {
	r := reading{version: c.version, left: "runs queued by " + c.version, ticks: c.old.Ticks}
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
		c.breaks("task %s: the result, %s, is gone: whoever waits for one with the code of %s would find none; keep it until nobody does", c.present.Name, was, c.version)
	default:
		r := reading{version: c.version, left: "results kept by " + c.version, result: true}
		if !r.reads(was, is, "") {
			r.add("the result was %s and is %s: %s could not be read; %s", was, is, r.left, retypeHint(was, is))
		}
		c.report(r.found)
	}
}

func (c *comparison) report(found []string) {
	for _, message := range found {
		c.breaks("task %s: %s", c.present.Name, message)
	}
}

// reading holds what the older version wrote against what the present one
// reads.
type reading struct {
	version string
	left    string // what the older version leaves behind
	result  bool
	ticks   bool // parameters may be missing altogether
	found   []string
	open    [][2]*schema.Type // pairs being compared, or compared already
}

func (r *reading) add(format string, args ...any) {
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

// name is a field as messages call it: parameter "by", or field by.age of it.
func (r *reading) name(path, key string) string {
	switch {
	case r.result:
		return "result field " + join(path, key)
	case path != "":
		return "field " + join(path, key)
	}
	return fmt.Sprintf("parameter %q", key)
}

// fields compares the fields of a struct, or a task's parameters, at a path.
// Their order does not matter.
func (r *reading) fields(path string, old, present []schema.Field) {
	taken := map[string]bool{}
	for _, o := range old {
		p, ok := reader(o.Key, present)
		if !ok {
			r.removed(path, o, old, present)
			continue
		}
		taken[p.Key] = true
		what := r.name(path, p.Key)
		if (o.Optional || r.ticks && path == "") && !p.Dispensable() {
			r.add("%s is required now: %s may lack it; %s", what, r.left, r.missingHint(path, p))
		}
		if !r.reads(o.Type, p.Type, join(path, p.Key)) {
			r.add("%s was %s and is %s: %s could not be read; %s", what, o.Type, p.Type, r.left, r.retypeHint(path, o, p))
		}
	}
	for _, p := range present {
		if !taken[p.Key] && !p.Dispensable() {
			r.add("%s is new and required: %s lack it; %s", r.name(path, p.Key), r.left, r.missingHint(path, p))
		}
	}
}

// reader finds the field that reads a key: by its name first, as an older
// name of another may be in use again.
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

// removed reports a field that nothing reads any more. Of a result it matters
// to those who wait with the older code, and only if they insist on it.
func (r *reading) removed(path string, o schema.Field, old, present []schema.Field) {
	what := r.name(path, o.Key)
	if r.result {
		if !o.Dispensable() {
			r.add("%s is gone: whoever waits for the result with the code of %s would miss it; keep it until nobody does", what, r.version)
		}
		return
	}
	hint := "keep it, unused, until no such run is left"
	if heirs := heirs(o, old, present); path == "" && len(heirs) == 1 {
		hint = fmt.Sprintf("if it is called %s now, add //task:rename %s %s", heirs[0], heirs[0], o.Key)
	}
	r.add("%s is gone: what %s carry in it would be dropped; %s", what, r.left, hint)
}

// heirs are the new fields of a type that can read what o wrote.
func heirs(o schema.Field, old, present []schema.Field) []string {
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

// missingHint says how a field becomes one that may be missing.
func (r *reading) missingHint(path string, p schema.Field) string {
	if path == "" && !r.result {
		return fmt.Sprintf("add //task:default %s with a value, or make it a pointer", p.Key)
	}
	return "make it a pointer, or give it the tag option omitempty"
}

// retypeHint says how to get from one type to the other.
func (r *reading) retypeHint(path string, o, p schema.Field) string {
	if path == "" && !r.result && o.Type.Kind != schema.Pointer {
		return fmt.Sprintf("keep the type, or add a parameter of another name, with //task:default, beside %s", p.Key)
	}
	return retypeHint(o.Type, p.Type)
}

func retypeHint(was, is *schema.Type) string {
	if was.Kind == schema.Pointer && is.Kind != schema.Pointer {
		return "keep the pointer: it may be nil there"
	}
	return "keep the type, or add what is new under another name"
}
