package render

import (
	"cmp"
	"fmt"
	"go/types"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// Target says what a client package is, and what is around it.
type Target struct {
	Path     string          // to import it by; "" outside of any module
	Name     string          // of the package
	Declared map[string]bool // what its other files declare
	Taken    map[string]bool // the same, with the names of their imports

	// Workers returns, of the packages with these paths, those that would bring
	// tasks into a program, each with the path of the package that has them.
	Workers func(paths []string) (map[string]string, error)
}

// Client returns the file of a package with the stubs of the exported tasks of
// others and all that these stubs need. It imports none of those packages: the
// types that parameters and results have of them are declared once more.
// Problems say what cannot be; then there is no file.
func Client(target Target, packages []*scan.Package) ([]byte, []scan.Problem, error) {
	c := newCopier(target.Path, packages)
	c.collect()
	if err := c.withoutWorkers(target.Workers); err != nil {
		return nil, nil, err
	}
	if len(c.problems) > 0 {
		return nil, c.problems, nil
	}
	declared, taken := c.declared(), c.declared()
	maps.Copy(declared, target.Declared)
	maps.Copy(taken, target.Taken)
	g := newGenerator(&scan.Package{
		Path: target.Path, Name: target.Name, Tasks: c.tasks,
		Declared: declared, Taken: taken,
	})
	g.client = c
	g.file.HeaderComment(scan.Header)
	for line := range strings.SplitSeq(c.packageDoc(target.Name), "\n") {
		g.file.PackageComment("// " + line)
	}
	g.handshake()
	for _, t := range c.tasks {
		g.task(t)
	}
	for _, obj := range c.types {
		g.copied(obj)
	}
	g.allHelpers()
	src, err := g.source()
	return src, nil, err
}

// own reports whether a package's types are called by their name alone.
func (g *generator) own(path string) bool {
	return path == g.pkg.Path || g.client != nil && g.client.sources[path] != nil
}

// link names a task's function in a comment; a client's has no such function.
func (g *generator) link(t *scan.Task) string {
	if g.client != nil {
		return "the task " + t.Link()
	}
	return "[" + t.Link() + "]"
}

// copied declares a type once more, with its constants and comments, but
// without methods and without the fields that do not travel.
func (g *generator) copied(obj *types.TypeName) {
	d := g.client.sources[obj.Pkg().Path()].Declaration(obj)
	g.comment(cmp.Or(d.Doc, obj.Name()+" is a type of the tasks' package."))
	if alias, ok := obj.Type().(*types.Alias); ok {
		decl := g.file.Type().Id(obj.Name())
		if params := alias.Origin().TypeParams(); params.Len() > 0 {
			decl.Types(g.typeParams(params)...)
		}
		decl.Op("=").Add(g.typ(alias.Origin().Rhs()))
		g.file.Line()
		return
	}
	named := obj.Type().(*types.Named)
	decl := g.file.Type().Id(obj.Name())
	if named.TypeParams().Len() > 0 {
		decl.Types(g.typeParams(named.TypeParams())...)
	}
	if s, ok := named.Underlying().(*types.Struct); ok {
		decl.Add(g.copiedStruct(s, d.Fields))
	} else {
		decl.Add(g.typ(named.Underlying()))
	}
	g.file.Line()
	if len(d.Constants) == 0 {
		return
	}
	g.comment("The constants of " + obj.Name() + ".")
	g.file.Const().DefsFunc(func(body *jen.Group) {
		for _, c := range d.Constants {
			for line := range docLines(c.Doc) {
				body.Comment(line)
			}
			body.Id(c.Name).Id(obj.Name()).Op("=").Id(c.Value)
		}
	})
	g.file.Line()
}

func (g *generator) copiedStruct(s *types.Struct, docs []string) *jen.Statement {
	return jen.StructFunc(func(body *jen.Group) {
		for i := range s.NumFields() {
			if !travels(s.Tag(i)) {
				continue
			}
			if i < len(docs) {
				for line := range docLines(docs[i]) {
					body.Comment(line)
				}
			}
			body.Add(g.structField(s, i))
		}
	})
}

// docLines yields the lines of a comment.
func docLines(text string) func(func(string) bool) {
	return func(yield func(string) bool) {
		if text == "" {
			return
		}
		for line := range strings.SplitSeq(text, "\n") {
			if !yield(strings.TrimRight("// "+visible(line), " ")) {
				return
			}
		}
	}
}

// visible returns text with an escape in place of what does not show, or shows
// as something else: control characters, and those that turn the direction of
// writing or end a line for some readers.
func visible(text string) string {
	hides := func(r rune) bool {
		return r != '\t' && (unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == utf8.RuneError) && r != zeroWidthJoiner
	}
	if !strings.ContainsFunc(text, hides) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if hides(r) {
			fmt.Fprintf(&b, "\\u%04x", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// zeroWidthJoiner is in what people write: it joins emoji.
const zeroWidthJoiner = '\u200d'

func (g *generator) typeParams(list *types.TypeParamList) []jen.Code {
	var params []jen.Code
	for p := range list.TypeParams() {
		constraint := jen.Id(types.TypeString(p.Constraint(), nil))
		if named, ok := types.Unalias(p.Constraint()).(*types.Named); ok && named.Obj().Pkg() != nil {
			constraint = g.typ(named)
		}
		params = append(params, jen.Id(p.Obj().Name()).Add(constraint))
	}
	return params
}

// travels reports whether a field with this tag is part of what is sent.
func travels(tag string) bool {
	key, _, _ := strings.Cut(reflect.StructTag(tag).Get("msgpack"), ",")
	return key != "-"
}

// onlyForWorkers reports whether a field of Spec says how a task runs, which
// who queues it need not know.
func onlyForWorkers(field string) bool {
	return slices.Contains([]string{"Schedule", "Memory", "Env"}, field)
}
