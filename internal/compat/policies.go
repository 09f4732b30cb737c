package compat

import (
	"fmt"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/schema"
)

// policies reports the policies whose keys are not those of the old version. Equal values
// then count apart until its runs have ended.
func (c *comparison) policies() {
	for _, p := range []struct {
		name, effect string
		was, is      *Policy
	}{
		{"unique", "a run that %s queued does not keep an equal one of this version out", c.old.Unique, c.present.Unique},
		{"concurrency", "runs that %s queued are counted apart, and more than the limit may run at once", c.old.Concurrency, c.present.Concurrency},
		{"rate", "runs that %s queued are counted apart, and more than the limit may start", c.old.Rate, c.present.Rate},
		{"fair", "runs that %s queued take turns apart from those of this version", c.old.Fair, c.present.Fair},
	} {
		if p.was == nil || p.is == nil {
			continue
		}
		k := keys{comparison: c, policy: p.name, was: p.was.By, is: p.is.By}
		k.compare()
		if len(k.reasons) > 0 {
			c.note("task %s: the key of //task:%s is another, since %s: until they have ended, "+p.effect+"; %s",
				c.present.Name, p.name, strings.Join(k.reasons, " and "), c.version, k.hint)
		}
	}
}

// keys compares what the keys of one policy are made of.
type keys struct {
	*comparison
	policy  string
	was, is []string // by=
	reasons []string
	hint    string // for the first reason
}

func (k *keys) because(hint, format string, args ...any) {
	if len(k.reasons) == 0 {
		k.hint = hint
	}
	k.reasons = append(k.reasons, fmt.Sprintf(format, args...))
}

const letEnd = "let those end first if that matters"

func (k *keys) compare() {
	if was := keyName(k.old); k.policy != "fair" && was != keyName(k.present) {
		hint := "keep //task:alias " + was
		if slices.Contains(k.present.Aliases, was) {
			hint = "move //task:alias " + was + " before the others"
		} else if was == k.present.Name {
			hint = letEnd
		}
		k.because(hint, "it goes by the first name, which was %s", was)
	}
	if k.policy != "fair" && k.old.Queue != k.present.Queue {
		k.because(letEnd, "its queue was %s", k.old.Queue)
	}
	was, is := k.was, k.is
	if k.policy == "unique" && was == nil {
		was = names(k.old.Params)
	}
	if k.policy == "unique" && is == nil {
		is = names(k.present.Params)
	}
	switch {
	case slices.Equal(k.mapped(was), is):
	case k.policy == "unique" && k.was == nil && k.is == nil:
		k.allParams()
	default:
		k.paths()
	}
	for _, path := range was {
		now := k.renamed(path)
		before, after := typeAt(path, k.old.Params), typeAt(now, k.present.Params)
		if slices.Contains(is, now) && before != nil && after != nil && !sameBytes(before, after, map[[2]*schema.Type]bool{}) {
			k.because(letEnd, "%s was %s and is %s", now, before, after)
		}
	}
}

// keyName returns the name that is part of a task's keys: the first alias, if it has one.
func keyName(t *Task) string {
	if len(t.Aliases) > 0 {
		return t.Aliases[0]
	}
	return t.Name
}

// allParams compares the parameters of a unique task without by=.
func (k *keys) allParams() {
	was, is := k.mapped(names(k.old.Params)), names(k.present.Params)
	added := slices.DeleteFunc(slices.Clone(is), func(name string) bool { return slices.Contains(was, name) })
	kept := slices.DeleteFunc(slices.Clone(is), func(name string) bool { return !slices.Contains(was, name) })
	switch {
	case len(added) > 0 && len(kept) > 0:
		k.because("add by="+strings.Join(kept, ",")+" to keep the key", "it has all parameters, and %s is new", strings.Join(added, ","))
	case len(added) > 0:
		k.because(letEnd, "it has all parameters, and %s is new", strings.Join(added, ","))
	case len(kept) < len(was):
		k.because(letEnd, "it has all parameters, and one is gone")
	default:
		k.because("keep their order", "it has all parameters in their order, which was %s", strings.Join(was, ","))
	}
}

// paths compares by= of both versions.
func (k *keys) paths() {
	was := k.mapped(k.was)
	switch {
	case len(k.is) == 0:
		k.because("keep by="+strings.Join(was, ","), "by=%s is gone", strings.Join(k.was, ","))
	case len(k.was) == 0:
		k.because(letEnd, "by=%s is new", strings.Join(k.is, ","))
	default:
		k.because("keep by="+strings.Join(was, ","), "by=%s was by=%s", strings.Join(k.is, ","), strings.Join(k.was, ","))
	}
}

// mapped returns old paths as the present version has them.
func (k *keys) mapped(paths []string) (now []string) {
	for _, path := range paths {
		now = append(now, k.renamed(path))
	}
	return now
}

// renamed returns an old path with the present name of its parameter.
func (k *keys) renamed(path string) string {
	name, rest, isField := strings.Cut(path, ".")
	if p, ok := reader(name, k.present.Params); ok {
		name = p.Key
	}
	if isField {
		name += "." + rest
	}
	return name
}

func names(params []schema.Field) (names []string) {
	for _, p := range params {
		names = append(names, p.Key)
	}
	return names
}

// typeAt returns the type of a parameter or of a field of one, nil if there is none.
func typeAt(path string, fields []schema.Field) *schema.Type {
	for _, f := range fields {
		if f.Key == path {
			return f.Type
		}
		if rest, ok := strings.CutPrefix(path, f.Key+"."); ok {
			t := f.Type
			for t.Kind == schema.Pointer {
				t = t.Elem
			}
			if found := typeAt(rest, t.Fields); found != nil {
				return found
			}
		}
	}
	return nil
}

// sameBytes reports whether equal values of two types have the same canonical encoding, see
// codec.AppendCanonical.
func sameBytes(a, b *schema.Type, met map[[2]*schema.Type]bool) bool {
	for a.Kind == schema.Pointer {
		a = a.Elem
	}
	for b.Kind == schema.Pointer {
		b = b.Elem
	}
	if met[[2]*schema.Type{a, b}] {
		return true
	}
	met[[2]*schema.Type{a, b}] = true
	binary := func(t *schema.Type) bool {
		return t.Kind == schema.Bytes || t.Kind == schema.FixedBytes || t.Kind == schema.Scalar && t.Name == "string"
	}
	list := func(t *schema.Type) bool { return t.Kind == schema.Slice || t.Kind == schema.Array }
	switch {
	case binary(a) && binary(b):
		return true
	case a.Kind == schema.Scalar && b.Kind == schema.Scalar:
		_, _, integer := schema.IntegerRange(a.Name)
		_, _, integers := schema.IntegerRange(b.Name)
		number := integer || strings.HasPrefix(a.Name, "float")
		numbers := integers || strings.HasPrefix(b.Name, "float")
		return a.Name == b.Name || integer && numbers || number && integers // whole numbers are alike
	case list(a) && list(b):
		return sameBytes(a.Elem, b.Elem, met)
	case a.Kind != b.Kind:
		return false
	case a.Kind == schema.Map:
		return sameBytes(a.Key, b.Key, met) && sameBytes(a.Elem, b.Elem, met)
	case a.Kind == schema.Own:
		return a.Method == b.Method && typeOf(a).name == typeOf(b).name && typeOf(a).arguments == typeOf(b).arguments
	}
	return len(a.Fields) == len(b.Fields) && !slices.ContainsFunc(a.Fields, func(f schema.Field) bool {
		at := slices.IndexFunc(b.Fields, func(g schema.Field) bool { return f.Key == g.Key })
		return at < 0 || f.Optional != b.Fields[at].Optional || !sameBytes(f.Type, b.Fields[at].Type, met)
	})
}
