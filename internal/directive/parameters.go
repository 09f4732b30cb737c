package directive

import (
	"go/token"
	"iter"
	"strings"
)

// tokenPos is the length of text as a distance of positions.
func tokenPos(text string) token.Pos { return token.Pos(len(text)) }

// split returns the parts of a word between commas.
func (w Word) split() iter.Seq[Word] {
	return func(yield func(Word) bool) {
		pos := w.Pos
		for text := range strings.SplitSeq(w.Text, ",") {
			if !yield(Word{text, pos}) {
				return
			}
			pos += tokenPos(text + ",")
		}
	}
}

// by parses by=: parameters or their fields, separated by commas.
func (b *builder) by(p *parts) []Word {
	arg, ok := p.keys["by"]
	if !ok {
		return nil
	}
	var paths []Word
	seen := map[string]bool{}
	for path := range arg.split() {
		if !b.path(p, path) {
			continue
		}
		if seen[path.Text] {
			b.problem(path.Pos, "%s: %s is repeated", p, path.Text)
		}
		seen[path.Text] = true
		paths = append(paths, path)
	}
	return paths
}

// path reports whether a word is a parameter or a field of one: identifiers separated
// by dots.
func (b *builder) path(p *parts, path Word) bool {
	for _, name := range strings.Split(path.Text, ".") {
		if !token.IsIdentifier(name) {
			b.problem(path.Pos, "%s: %q is not a parameter; write its name, or a field of it as in order.CustomerID", p, path.Text)
			return false
		}
	}
	return true
}

// parameter reports whether a word is a valid parameter name.
func (b *builder) parameter(p *parts, name Word) bool {
	if !token.IsIdentifier(name.Text) {
		b.problem(name.Pos, "%s: %q is not a parameter's name", p, name.Text)
		return false
	}
	return true
}

func applySecret(b *builder, p *parts) {
	arg := p.words[0]
	if !b.parameter(p, arg) {
		return
	}
	for _, other := range b.options.Secrets {
		if other.Text == arg.Text {
			b.problem(arg.Pos, "%s: %s is repeated; first at %s", p, arg.Text, b.at(other.Pos))
			return
		}
	}
	b.options.Secrets = append(b.options.Secrets, arg)
}

func applyRename(b *builder, p *parts) {
	from, ok := p.keys["from"]
	switch {
	case len(p.words) == 2 && ok:
		b.problem(p.words[1].Pos, "%s: unexpected argument %q", p, p.words[1].Text)
		return
	case len(p.words) == 2:
		if b.parameter(p, p.words[0]) && b.parameter(p, p.words[1]) {
			b.options.Renames = append(b.options.Renames, Rename{Param: p.words[0], Old: p.words[1], Bare: true})
		}
		return
	case !ok:
		b.problem(p.Pos, "%s needs from= with the old name, as in %s", p, p.usage)
		return
	}
	pos := from.Pos
	for _, text := range strings.Split(from.Text, ",") {
		old := Word{text, pos}
		pos += tokenPos(text + ",")
		if b.parameter(p, p.words[0]) && b.parameter(p, old) {
			b.options.Renames = append(b.options.Renames, Rename{Param: p.words[0], Old: old})
		}
	}
}

// applyDefault splits a parameter's name from the Go source after it.
func applyDefault(b *builder, p *parts) {
	name, rest := p.Rest.Text, ""
	if i := strings.IndexAny(p.Rest.Text, " \t"); i >= 0 {
		name, rest = p.Rest.Text[:i], p.Rest.Text[i:]
	}
	value := strings.TrimLeft(rest, " \t")
	if value == "" {
		b.problem(p.Pos, "%s needs a parameter and its value, as in %s", p, p.usage)
		return
	}
	d := Default{Param: Word{name, p.Rest.Pos}, Value: Word{value, p.Rest.Pos + tokenPos(name+rest) - tokenPos(value)}}
	if strings.ContainsAny(name, ".[") {
		if !b.path(p, Word{strings.ReplaceAll(name, "[]", ""), d.Param.Pos}) {
			return
		}
	} else if !b.parameter(p, d.Param) {
		return
	}
	for _, other := range b.options.Defaults {
		if other.Param.Text == name {
			b.problem(d.Param.Pos, "%s: %s has a default already, at %s", p, name, b.at(other.Param.Pos))
			return
		}
	}
	b.options.Defaults = append(b.options.Defaults, d)
}
