package compat

import (
	"fmt"

	"github.com/taskgen/taskgen/internal/schema"
)

// awaiting compares the results that the present version writes with those that the old
// one reads: its processes wait for them while both are up.
type awaiting struct {
	version string
	known   map[string]bool // paths of what is reported already
	found   []finding
	types   reading
}

// whole compares two results.
func (a *awaiting) whole(was, is *schema.Type) {
	a.types.structs = a.fields
	a.compare("the result", "", was, is)
}

// compare compares a result or a part of one, which what names.
func (a *awaiting) compare(what, path string, was, is *schema.Type) {
	if a.known[path] {
		return
	}
	switch a.types.reads(is, was, path) {
	case never:
		a.add(path, false, "%s was %s and is %s: callers of %s that wait for it could not read it; keep the type until none are left", what, was, is, a.version)
	case partly:
		a.add(path, true, "%s was %s and is %s: callers of %s that wait for it could not read every value; keep the type until none are left", what, was, is, a.version)
	}
}

func (a *awaiting) add(path string, note bool, format string, args ...any) {
	a.found = append(a.found, finding{path, note, fmt.Sprintf(format, args...)})
}

// fields compares the fields of a struct: those that the present version writes with those
// that the old one reads.
func (a *awaiting) fields(path string, written, read []schema.Field) {
	for _, o := range read {
		at := join(path, o.Key)
		what := "result field " + at
		p, ok := writer(o, written)
		switch {
		case a.known[at]:
		case !ok && !o.Dispensable():
			a.gone(at, o, written, read)
		case !ok:
		case p.Optional && !o.Dispensable():
			a.add(at, false, "%s may be missing now: callers of %s that wait for the result require it; omit the tag option omitempty until none are left", what, a.version)
		default:
			a.compare(what, at, o.Type, p.Type)
		}
	}
}

// gone reports a field that the present version does not write.
func (a *awaiting) gone(at string, o schema.Field, written, read []schema.Field) {
	hint := "keep it until none are left"
	if successors := successors(o, read, written); len(successors) == 1 {
		hint = tagHint(successors[0], o.Key)
	}
	a.add(at, false, "result field %s is gone: callers of %s that wait for the result would miss it; %s", at, a.version, hint)
}

// writer returns the field of which another version reads o.
func writer(o schema.Field, written []schema.Field) (schema.Field, bool) {
	for _, p := range written {
		if p.Key == o.Key {
			return p, true
		}
	}
	return schema.Field{}, false
}
