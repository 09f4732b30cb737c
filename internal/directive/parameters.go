package directive

import (
	"go/token"
	"strings"
)

// tokenPos is the length of text as a distance of positions.
func tokenPos(text string) token.Pos { return token.Pos(len(text)) }

// by parses by=: parameters or their fields, separated by commas.
func (f *fold) by(p *parts) []Word {
	arg, ok := p.keys["by"]
	if !ok {
		return nil
	}
	var paths []Word
	pos := arg.Pos
	seen := map[string]bool{}
	for _, text := range strings.Split(arg.Text, ",") {
		path := Word{text, pos}
		pos += tokenPos(text + ",")
		if !f.path(p, path) {
			continue
		}
		if seen[text] {
			f.problem(path.Pos, "%s: %s is repeated", p, text)
		}
		seen[text] = true
		paths = append(paths, path)
	}
	return paths
}

// path reports whether a word is a parameter or a field of one: identifiers separated
// by dots.
func (f *fold) path(p *parts, path Word) bool {
	for _, name := range strings.Split(path.Text, ".") {
		if !token.IsIdentifier(name) {
			f.problem(path.Pos, "%s: %q is not a parameter; write its name, or a field of it as in order.CustomerID", p, path.Text)
			return false
		}
	}
	return true
}

// parameter reports whether a word is a valid parameter name.
func (f *fold) parameter(p *parts, name Word) bool {
	if !token.IsIdentifier(name.Text) {
		f.problem(name.Pos, "%s: %q is not a parameter's name", p, name.Text)
		return false
	}
	return true
}

func applySecret(f *fold, p *parts) {
	arg := p.words[0]
	if !f.parameter(p, arg) {
		return
	}
	for _, other := range f.options.Secrets {
		if other.Text == arg.Text {
			f.problem(arg.Pos, "%s: %s is repeated; first at %s", p, arg.Text, f.at(other.Pos))
			return
		}
	}
	f.options.Secrets = append(f.options.Secrets, arg)
}

func applyRename(f *fold, p *parts) {
	param, old := p.words[0], p.words[1]
	if f.parameter(p, param) && f.parameter(p, old) {
		f.options.Renames = append(f.options.Renames, Rename{param, old})
	}
}

// applyDefault splits a parameter's name from the Go source after it.
func applyDefault(f *fold, p *parts) {
	name, rest := p.Rest.Text, ""
	if i := strings.IndexAny(p.Rest.Text, " \t"); i >= 0 {
		name, rest = p.Rest.Text[:i], p.Rest.Text[i:]
	}
	value := strings.TrimLeft(rest, " \t")
	if value == "" {
		f.problem(p.Pos, "%s needs a parameter and its value, as in %s", p, p.usage)
		return
	}
	d := Default{Param: Word{name, p.Rest.Pos}, Value: Word{value, p.Rest.Pos + tokenPos(name+rest) - tokenPos(value)}}
	if !f.parameter(p, d.Param) {
		return
	}
	for _, other := range f.options.Defaults {
		if other.Param.Text == name {
			f.problem(d.Param.Pos, "%s: %s has a default already, at %s", p, name, f.at(other.Param.Pos))
			return
		}
	}
	f.options.Defaults = append(f.options.Defaults, d)
}
