package scan

import (
	"fmt"
	"go/token"
	"maps"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// options checks the directives that name parameters. It does nothing if a parameter
// was refused, because every directive would then seem wrong.
func (b *builder) options() {
	if b.bad {
		return
	}
	o := &b.made.Options
	for _, name := range o.Secrets {
		if p := b.lookup("secret", name); p != nil {
			p.Secret = true
		}
	}
	for i, d := range o.Defaults {
		name, path := firstOf(d.Param)
		p := b.lookup("default", name)
		switch {
		case p == nil:
		case path.Text == "":
			p.Default = b.defaultOf(p, d.Value)
		default:
			b.fieldDefault(p, d, path, i)
		}
	}
	b.renames(o.Renames)
	b.policies(o)
	b.scheduled()
}

// policies resolves the parameters that policies distinguish runs by. A unique task
// without any is unique by all of them.
func (b *builder) policies(o *directive.Options) {
	if o.Unique != nil {
		b.made.Unique = b.keys("unique", o.Unique.By)
		if len(o.Unique.By) == 0 {
			for _, p := range b.made.Params {
				b.made.Unique = append(b.made.Unique, &Key{Param: p})
			}
		}
	}
	if o.Concurrency != nil {
		b.made.Limit = b.keys("concurrency", o.Concurrency.By)
	}
	if o.Rate != nil {
		b.made.Rate = b.keys("rate", o.Rate.By)
	}
	if o.Fair != nil {
		b.made.Fair = b.key("fair", *o.Fair)
	}
}

// scheduled reports the parameters for which a tick has no value.
func (b *builder) scheduled() {
	if b.bad || !b.made.Options.SchedulePos.IsValid() {
		return
	}
	for _, p := range b.made.Params {
		if !p.Optional() {
			b.fail(p.pos, "scheduled task %s takes the parameter %s, but a schedule has no value for it; add //task:default %s …, or make it a pointer", b.made.Func, p.Name, p.Name)
		}
	}
}

// lookup returns the parameter that a directive names.
func (b *builder) lookup(directiveName string, name directive.Word) *Param {
	var known []string
	for _, p := range b.made.Params {
		if p.Name == name.Text {
			return p
		}
		known = append(known, p.Name)
	}
	b.fail(name.Pos, "//task:%s: %s has no parameter %q%s", directiveName, b.made.Func, name.Text, directive.Suggest(name.Text, known))
	return nil
}

// renames adds the old keys of parameters. Each key belongs to one parameter.
func (b *builder) renames(renames []directive.Rename) {
	keys := map[string]string{}
	for _, p := range b.made.Params {
		keys[p.Name] = p.Name
	}
	for _, r := range renames {
		if b.reversed(r, keys) {
			continue
		}
		p := b.lookup("rename", r.Param)
		if p == nil {
			continue
		}
		switch owner, taken := keys[r.Old.Text]; {
		case taken && owner == r.Old.Text:
			b.fail(r.Old.Pos, "//task:rename: %s is a parameter of %s itself", r.Old.Text, b.made.Func)
			continue
		case taken:
			b.fail(r.Old.Pos, "//task:rename: %s is an old name of %s already", r.Old.Text, owner)
			continue
		}
		keys[r.Old.Text] = p.Name
		p.Old = append(p.Old, r.Old.Text)
	}
}

// reversed reports a rename without from=, or one whose old name is the parameter, and how
// to write it.
func (b *builder) reversed(r directive.Rename, params map[string]string) bool {
	name, old, pos := r.Param.Text, r.Old.Text, r.Old.Pos
	if params[name] != name && params[old] == old {
		name, old, pos = old, name, r.Param.Pos
	} else if !r.Bare {
		return false
	}
	why := "the old name follows from="
	if params[name] != name {
		why = fmt.Sprintf("%s has no parameter %q%s, and the old name follows from=", b.made.Func, name, directive.Suggest(name, slices.Collect(maps.Values(params))))
	}
	b.fail(pos, "//task:rename: %s; write //task:rename %s from=%s", why, name, old)
	return true
}

func (b *builder) keys(directiveName string, paths []directive.Word) []*Key {
	var keys []*Key
	for _, path := range paths {
		if k := b.key(directiveName, path); k != nil {
			keys = append(keys, k)
		}
	}
	return keys
}

// key resolves a path such as order.CustomerID.
func (b *builder) key(directiveName string, path directive.Word) *Key {
	name, rest, _ := strings.Cut(path.Text, ".")
	p := b.lookup(directiveName, directive.Word{Text: name, Pos: path.Pos})
	if p == nil {
		return nil
	}
	k := &Key{Param: p}
	for done := name; rest != ""; {
		pos := path.Pos + token.Pos(len(done)+len("."))
		f := b.fieldOf(directiveName, k.Type(), done, directive.Word{Text: rest, Pos: pos})
		if f == nil {
			return nil
		}
		k.Fields = append(k.Fields, f)
		used := f.Path
		if rest != used && !strings.HasPrefix(rest, used+".") {
			used = f.Name() // promoted
		}
		done += "." + used
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, used), ".")
	}
	return k
}

// fieldOf returns the field of t, or of what t points to, at the start of rest. It
// reports a path without one; done is the part of the path before rest.
func (b *builder) fieldOf(directiveName string, t *Type, done string, rest directive.Word) *Field {
	for t.Kind == Pointer {
		t = t.Elem
	}
	if t.Kind != Struct {
		why := "not a struct: it has no fields"
		if t.Kind == Custom || t.Kind == Time {
			why = "encoded as a whole: its fields cannot be used"
		}
		b.fail(rest.Pos, "//task:%s: %s is of type %s, which is %s", directiveName, done, b.conv.print(t.Go), why)
		return nil
	}
	f := fieldAt(t, rest.Text)
	if f == nil {
		embedded := embeddedPrefix(t, rest.Text)
		first, _, _ := strings.Cut(rest.Text[len(embedded):], ".")
		b.fail(rest.Pos+token.Pos(len(embedded)), "//task:%s: %s has no encoded field %q%s", directiveName,
			strings.TrimSuffix(done+"."+embedded, "."), first, directive.Suggest(first, fieldNames(t)))
	}
	return f
}

// fieldAt returns the field at the start of a path: by its own path through embedded
// structs, or promoted by name. As in Go, the shallowest promoted field wins.
func fieldAt(t *Type, path string) *Field {
	for _, f := range t.Fields {
		if path == f.Path || strings.HasPrefix(path, f.Path+".") {
			return f
		}
	}
	name, _, _ := strings.Cut(path, ".")
	var found *Field
	for _, f := range t.Fields {
		if f.Name() == name && (found == nil || strings.Count(f.Path, ".") < strings.Count(found.Path, ".")) {
			found = f
		}
	}
	return found
}

// embeddedPrefix returns the start of a path that names embedded structs, with the
// last dot.
func embeddedPrefix(t *Type, path string) string {
	prefix := ""
	for {
		name, _, more := strings.Cut(path[len(prefix):], ".")
		longer := prefix + name + "."
		if !more || !slices.ContainsFunc(t.Fields, func(f *Field) bool { return strings.HasPrefix(f.Path, longer) }) {
			return prefix
		}
		prefix = longer
	}
}

func fieldNames(t *Type) []string {
	var names []string
	for _, f := range t.Fields {
		if !slices.Contains(names, f.Name()) {
			names = append(names, f.Name())
		}
	}
	return names
}
