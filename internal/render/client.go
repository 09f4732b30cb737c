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

// Target is the client package to write, and the rest of its directory.
type Target struct {
	Path     string          // import path; "" outside of any module
	Name     string          // package name
	Declared map[string]bool // names that its other files declare
	Taken    map[string]bool // Declared, and the names of their imports

	// Workers returns the packages of paths that would link tasks into a program, and
	// maps each to the package with the tasks.
	Workers func(paths []string) (map[string]string, error)
}

// Client returns the file of a package with the stubs of the exported tasks, and
// everything that the stubs need. It imports none of the tasks' packages: it declares
// their types again. If there are problems, there is no file.
func Client(target Target, packages []*scan.Package) ([]byte, []scan.Problem, error) {
	c := newCopier(target.Path, packages)
	c.collect()
	if err := c.withoutWorkers(target.Workers); err != nil {
		return nil, nil, err
	}
	if len(c.problems) > 0 {
		return nil, c.problems, nil
	}
	g := c.generator(target)
	g.file.HeaderComment(scan.Header)
	for line := range strings.SplitSeq(c.packageDoc(target.Name), "\n") {
		g.file.PackageComment("// " + line)
	}
	g.handshake()
	for _, t := range c.tasks {
		g.stubs(t)
	}
	for _, obj := range c.types {
		g.copied(obj)
	}
	g.plumbing()
	src, err := g.source()
	return src, nil, err
}

// generator returns the generator of the client package, in which the copied types are
// declared.
func (c *copier) generator(target Target) *generator {
	declared, taken := c.declared(), c.declared()
	maps.Copy(declared, target.Declared)
	maps.Copy(taken, target.Taken)
	g := newGenerator(&scan.Package{
		Path: target.Path, Name: target.Name, Tasks: c.tasks,
		Declared: declared, Taken: taken, Aliases: c.aliases,
	})
	g.client = c
	return g
}

// own reports whether types of the package are written without a qualifier.
func (g *generator) own(path string) bool {
	return path == g.pkg.Path || g.client != nil && g.client.sources[path] != nil
}

// link returns a task's function for a comment. In a client it is no link, because
// the function is elsewhere.
func (g *generator) link(t *scan.Task) string {
	if g.client != nil {
		return "the task " + t.Link()
	}
	return "[" + t.Link() + "]"
}

// copied declares a type again, with constants and comments, but without methods and
// without fields that are not encoded.
func (g *generator) copied(obj *types.TypeName) {
	d := g.client.sources[obj.Pkg().Path()].Declaration(obj)
	g.comment(cmp.Or(d.Doc, obj.Name()+" is a type of the tasks' package."))
	if alias, ok := obj.Type().(*types.Alias); ok {
		g.copiedHead(obj, alias.Origin().TypeParams()).Op("=").Add(g.typ(alias.Origin().Rhs()))
		g.file.Line()
		return
	}
	named := obj.Type().(*types.Named)
	head := g.copiedHead(obj, named.TypeParams())
	if s, ok := named.Underlying().(*types.Struct); ok {
		head.Add(g.copiedStruct(s, d.Fields))
	} else {
		head.Add(g.typ(named.Underlying()))
	}
	g.file.Line()
	g.copiedConstants(obj, d.Constants)
}

// copiedHead renders the start of a type's declaration: its name and type parameters.
func (g *generator) copiedHead(obj *types.TypeName, params *types.TypeParamList) *jen.Statement {
	head := g.file.Type().Id(obj.Name())
	if params.Len() > 0 {
		head.Types(g.typeParams(params)...)
	}
	return head
}

func (g *generator) copiedConstants(obj *types.TypeName, constants []scan.Constant) {
	if len(constants) == 0 {
		return
	}
	g.comment("The constants of " + obj.Name() + ".")
	g.file.Const().DefsFunc(func(body *jen.Group) {
		for _, c := range constants {
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
			if !encoded(s.Tag(i)) {
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

// visible returns text with invisible and misleading characters escaped: control
// characters, and marks that change the writing direction or end a line for some
// readers.
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

// zeroWidthJoiner is allowed because it joins emoji.
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

// encoded reports whether a field with this tag is encoded.
func encoded(tag string) bool {
	key, _, _ := strings.Cut(reflect.StructTag(tag).Get("msgpack"), ",")
	return key != "-"
}

// onlyForWorkers reports whether a field of Spec concerns only the execution of the
// task, not its callers.
func onlyForWorkers(field string) bool {
	return slices.Contains([]string{"By", "Schedule", "Memory", "Env", "Trace"}, field)
}
