package scan

import (
	"fmt"
	"go/token"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// firstOf splits the parameter from a path such as order.Items[].Unit. The rest begins with
// a dot or with [].
func firstOf(path directive.Word) (name, rest directive.Word) {
	i := strings.IndexAny(path.Text, ".[")
	if i < 0 {
		return path, directive.Word{}
	}
	return directive.Word{Text: path.Text[:i], Pos: path.Pos}, directive.Word{Text: path.Text[i:], Pos: path.Pos + token.Pos(i)}
}

// fieldDefault gives a field of a parameter a default. The parameter gets types of its own
// for that, since other parameters have the same ones without it.
func (b *builder) fieldDefault(p *Param, d directive.Default, path directive.Word, number int) {
	f := &fielder{builder: b, param: p, source: d, variant: fmt.Sprintf("#%s.%s.%d", b.made.GoName, p.Name, number)}
	if t := f.with(p.Type, p.Name, path); t != nil {
		p.Type = t
	}
}

// fielder gives one field a default.
type fielder struct {
	*builder
	param   *Param
	source  directive.Default
	variant string
}

// with returns t with the default at the end of a path. done is the path before that. It
// returns nil after a problem.
func (f *fielder) with(t *Type, done string, path directive.Word) *Type {
	made := *t
	made.Variant = f.variant
	if t.Kind == Pointer {
		if made.Elem = f.with(t.Elem, done, path); made.Elem == nil {
			return nil
		}
		return f.cyclic(t, &made)
	}
	if rest, ok := strings.CutPrefix(path.Text, "[]"); ok {
		if t.Kind != Slice && t.Kind != Array && t.Kind != Map {
			f.fail(path.Pos, "//task:default: %s is of type %s, which has no elements", done, f.conv.print(t.Go))
			return nil
		}
		if made.Elem = f.with(t.Elem, done+"[]", directive.Word{Text: rest, Pos: path.Pos + tokenPos("[]")}); made.Elem == nil {
			return nil
		}
		return f.cyclic(t, &made)
	}
	rest, ok := strings.CutPrefix(path.Text, ".")
	if !ok {
		f.fail(path.Pos, "//task:default: %s is no field of a parameter; write a path such as order.Items[].Unit", f.source.Param.Text)
		return nil
	}
	if t.Kind == Slice || t.Kind == Array || t.Kind == Map {
		f.fail(path.Pos, "//task:default: %s is of type %s; write %s[].%s for the field of its elements", done, f.conv.print(t.Go), done, rest)
		return nil
	}
	field := f.field(t, done, directive.Word{Text: rest, Pos: path.Pos + 1})
	if field == nil {
		return nil
	}
	changed := f.changed(field, done, directive.Word{Text: rest, Pos: path.Pos + 1})
	if changed == nil {
		return nil
	}
	made.Fields = slices.Clone(t.Fields)
	made.Fields[slices.Index(t.Fields, field)] = changed
	return f.cyclic(t, &made)
}

func tokenPos(text string) token.Pos { return token.Pos(len(text)) }

// field returns the field of a struct at the start of a path: by its name, or by its key.
func (f *fielder) field(t *Type, done string, rest directive.Word) *Field {
	key := rest.Text[:len(rest.Text)-len(after(rest.Text))]
	for _, one := range t.Fields {
		if one.Key == key && fieldAt(t, rest.Text) == nil {
			return one
		}
	}
	return f.fieldOf("default", t, done, directive.Word{Text: strings.ReplaceAll(rest.Text, "[]", ""), Pos: rest.Pos})
}

// after returns what follows the first name of a path.
func after(path string) string {
	if i := strings.IndexAny(path, ".["); i >= 0 {
		return path[i:]
	}
	return ""
}

// changed returns the field with the default, or with one in its type. rest is the path from
// the field's name on.
func (f *fielder) changed(field *Field, done string, rest directive.Word) *Field {
	used := field.Path
	if rest.Text != used && !strings.HasPrefix(rest.Text, used+".") && !strings.HasPrefix(rest.Text, used+"[") {
		used = rest.Text[:len(rest.Text)-len(after(rest.Text))] // promoted, or a key
	}
	made := *field
	whole := done + "." + used
	if more := rest.Text[len(used):]; more != "" {
		made.Type = f.with(field.Type, whole, directive.Word{Text: more, Pos: rest.Pos + tokenPos(used)})
		if made.Type == nil {
			return nil
		}
		return &made
	}
	switch {
	case field.OmitEmpty:
		f.fail(rest.Pos, "//task:default: %s is omitempty, so its empty value would become the default; remove that from its tag", whole)
		return nil
	case field.Default != nil:
		f.fail(rest.Pos, "//task:default: %s has a default already", whole)
		return nil
	}
	made.Default = f.defaultOf(&Param{Name: whole, Type: field.Type}, f.source.Value)
	if made.Default == nil {
		return nil
	}
	return &made
}

// cyclic has the parts of made that contain t itself contain made instead.
func (f *fielder) cyclic(t, made *Type) *Type {
	if t.Recursive {
		r := &redirector{from: t.ID(), to: made, variant: f.variant, made: map[*Type]*Type{}}
		r.parts(made)
	}
	return made
}

// redirector replaces a type that contains itself by another one.
type redirector struct {
	from    string // the id of the type
	to      *Type
	variant string
	made    map[*Type]*Type
}

// parts replaces the type in the parts of t.
func (r *redirector) parts(t *Type) {
	if t.Elem != nil {
		t.Elem = r.replaced(t.Elem)
	}
	t.Fields = slices.Clone(t.Fields)
	for i, f := range t.Fields {
		one := *f
		one.Type = r.replaced(f.Type)
		t.Fields[i] = &one
	}
}

// replaced returns t with the type replaced.
func (r *redirector) replaced(t *Type) *Type {
	switch {
	case t == r.to:
		return t
	case t.ID() == r.from:
		return r.to
	case r.made[t] != nil:
		return r.made[t]
	case !r.contains(t, map[*Type]bool{}):
		return t
	}
	again := *t
	again.Variant = r.variant
	r.made[t] = &again
	r.parts(&again)
	return &again
}

// contains reports whether the type is in t.
func (r *redirector) contains(t *Type, met map[*Type]bool) bool {
	if t == nil || met[t] {
		return false
	}
	met[t] = true
	return t.ID() == r.from || r.contains(t.Elem, met) ||
		slices.ContainsFunc(t.Fields, func(f *Field) bool { return r.contains(f.Type, met) })
}
