package compat

import (
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/internal/schema"
)

// reading compares the values that the old version wrote with those that the present
// one reads.
type reading struct {
	version string
	written string // the old values in messages: "runs queued by v1"
	result  bool   // they are results, not parameters
	ticks   bool   // a schedule queues runs without parameters
	found   []finding
	met     [][2]*schema.Type // pairs that are being compared or were compared

	// structs compares the fields of two structs at a path; nil: the method fields.
	structs func(path string, old, present []schema.Field)
}

// finding is a change of one value.
type finding struct {
	path string // of the value
	note bool
	text string
}

func (r *reading) add(path, format string, args ...any) {
	r.found = append(r.found, finding{path: path, text: fmt.Sprintf(format, args...)})
}

func (r *reading) note(path, format string, args ...any) {
	r.found = append(r.found, finding{path, true, fmt.Sprintf(format, args...)})
}

// paths returns the values that break.
func (r *reading) paths() map[string]bool {
	paths := map[string]bool{}
	for _, f := range r.found {
		if !f.note {
			paths[f.path] = true
		}
	}
	return paths
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
		r.missing(path, o, p)
		r.oldKeys(path, o, p, present)
		if fit := r.reads(o.Type, p.Type, join(path, p.Key)); fit != fits {
			r.add(join(path, p.Key), "%s was %s and is %s: %s; %s", r.name(path, p.Key), o.Type, p.Type, r.loss(o.Type, p.Type), r.retypeHint(path, o, p))
		}
	}
	for _, p := range present {
		if !read[p.Key] && !p.Dispensable() {
			r.add(join(path, p.Key), "%s is new and required: %s lack it; %s", r.name(path, p.Key), r.written, r.missingHint(path, p))
		}
	}
}

// missing reports a field that is required now. If the old version always wrote it, only
// what is older lacks it.
func (r *reading) missing(path string, o, p schema.Field) {
	what := r.name(path, p.Key)
	switch {
	case p.Dispensable():
	case o.Optional || r.ticks && path == "":
		r.add(join(path, p.Key), "%s is required now: %s may lack it; %s", what, r.written, r.missingHint(path, p))
	case o.Dispensable() && !r.result:
		r.note(join(path, p.Key), "%s is required now: %s also read runs without it, of versions before it and of their schedules made at run time; %s until none are left",
			what, r.version, keepHint(path, o, p))
	}
}

// oldKeys reports what a change of keys loses: the old names of o that p does not read, and
// the new name of p that the old version does not read.
func (r *reading) oldKeys(path string, o, p schema.Field, present []schema.Field) {
	what := r.name(path, p.Key)
	for _, key := range o.Old {
		switch other, ok := reader(key, present); {
		case !ok:
			r.note(join(path, p.Key), "%s no longer reads its old name %s: its values would be dropped in runs that versions before %s queued, also in those that wait for a retry, and in ticks of their schedules made at run time; keep //task:rename %s from=%s until none are left",
				what, key, r.version, p.Key, key)
		case other.Key != p.Key:
			r.note(join(path, p.Key), "%s no longer reads its old name %s, which %s reads now: runs that versions before %s queued would have the value there; let those end first",
				what, key, r.name(path, other.Key), r.version)
		}
	}
	if p.Key != o.Key && !r.result && o.Dispensable() && !slices.Contains(o.Old, p.Key) {
		r.note(join(path, p.Key), "%s was %s, which %s does without: its consumers would execute runs of this version without the value; stop them before such runs are queued",
			what, o.Key, r.version)
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

// removed reports a field that is no longer read. That of a result matters only to those
// who wait for it.
func (r *reading) removed(path string, o schema.Field, old, present []schema.Field) {
	if r.result {
		return
	}
	hint := "keep it, unused, until no such run is left"
	if successors := successors(o, old, present); len(successors) == 1 {
		hint = fmt.Sprintf("if its new name is %s, add //task:rename %s from=%s", successors[0], successors[0], o.Key)
		if path != "" {
			hint = tagHint(successors[0], o.Key)
		}
	}
	r.add(join(path, o.Key), "%s is gone: its values in %s would be dropped; %s", r.name(path, o.Key), r.written, hint)
}

func tagHint(name, key string) string {
	return fmt.Sprintf("if its new name is %s, give that field the tag `msgpack:%q`", name, key)
}

// successors returns the new fields that could read the values of o.
func successors(o schema.Field, old, present []schema.Field) []string {
	var names []string
	for _, p := range present {
		_, known := reader(p.Key, old)
		again := reading{}
		if !known && again.reads(o.Type, p.Type, "") == fits && len(again.found) == 0 {
			names = append(names, p.Key)
		}
	}
	return names
}

// missingHint returns how to make a field optional.
func (r *reading) missingHint(path string, p schema.Field) string {
	if !r.result {
		return fmt.Sprintf("add //task:default %s with a value, or make it a pointer", join(path, p.Key))
	}
	return "make it a pointer, or give it the tag option omitempty"
}

// keepHint returns how a field stays optional.
func keepHint(path string, o, p schema.Field) string {
	switch {
	case o.Default:
		return "keep //task:default " + join(path, p.Key)
	case path == "":
		return "keep the pointer, or add //task:default " + p.Key
	}
	return "keep the pointer"
}

// loss returns what a change of type does to the old values.
func (r *reading) loss(was, is *schema.Type) string {
	for was.Kind == is.Kind && (hasElements(was) || was.Kind == schema.Pointer) {
		was, is = was.Elem, is.Elem
	}
	if was.Kind == schema.Pointer && is.Kind == schema.Own {
		again := reading{}
		if again.reads(was.Elem, is, "") == fits {
			return "nil in " + r.written + " would become a zero value"
		}
	}
	return r.written + " could not be read"
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
