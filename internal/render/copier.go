package render

import (
	"cmp"
	"fmt"
	"go/types"
	"maps"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
)

// copier finds the types that a client package must declare itself, and what prevents
// that.
type copier struct {
	path     string // import path of the client; "" outside of any module
	sources  map[string]*scan.Package
	tasks    []*scan.Task
	aliases  map[string]*types.Alias  // for types that cannot be named, of all sources
	types    []*types.TypeName        // types to declare, in order of occurrence
	seen     map[*types.TypeName]bool // of types
	names    map[string]string        // the package of each name of the client
	checked  map[string]bool          // ids of types that were checked
	reported map[string]bool          // messages that were reported
	imported []reference              // types of packages that the client imports
	problems []scan.Problem
}

// reference is a type that a task refers to.
type reference struct {
	task *scan.Task
	obj  *types.TypeName
}

func newCopier(path string, packages []*scan.Package) *copier {
	c := &copier{
		path:     path,
		sources:  map[string]*scan.Package{},
		aliases:  map[string]*types.Alias{},
		seen:     map[*types.TypeName]bool{},
		names:    map[string]string{},
		checked:  map[string]bool{},
		reported: map[string]bool{},
	}
	for _, p := range packages {
		if len(p.Tasks) > 0 {
			c.sources[p.Path] = p
			maps.Copy(c.aliases, p.Aliases)
		}
	}
	return c
}

// packageDoc returns the package's doc comment.
func (c *copier) packageDoc(name string) string {
	paths := slices.Sorted(maps.Keys(c.sources))
	doc := "Package " + name + " queues the tasks of " + strings.Join(paths, ", ") + "\nwithout importing the code that runs them."
	if len(paths) == 1 {
		return doc
	}
	return "Package " + name + " queues the tasks of the packages\n" + strings.Join(paths, ",\n") + "\nwithout importing the code that runs them."
}

// collect visits the exported tasks, ordered by package and position.
func (c *copier) collect() {
	for _, path := range slices.Sorted(maps.Keys(c.sources)) {
		for _, t := range c.sources[path].Tasks {
			if t.Exported {
				c.tasks = append(c.tasks, t)
				c.task(path, t)
			}
		}
	}
}

func (c *copier) task(path string, t *scan.Task) {
	for _, name := range t.GeneratedNames() {
		if !c.claim(t, name, path) {
			break // the other names derive from the same one
		}
	}
	for _, p := range t.Params {
		c.value(t, "parameter "+p.Name, p.Type)
		c.visit(t, p.Type.Go)
	}
	if t.Result != nil {
		c.value(t, "the result", t.Result)
		c.visit(t, t.Result.Go)
	}
}

func (c *copier) problem(t *scan.Task, format string, args ...any) {
	message := "-client: " + fmt.Sprintf(format, args...)
	if c.reported[message] {
		return
	}
	c.reported[message] = true
	c.problems = append(c.problems, scan.Problem{Pos: t.Pos, Message: message})
}

// claim takes a name for a package, or reports that another package has it.
func (c *copier) claim(t *scan.Task, name, path string) bool {
	other, taken := c.names[name]
	if taken && other != path {
		c.problem(t, "packages %s and %s both have the name %s; write a client for each", other, path, name)
		return false
	}
	c.names[name] = path
	return true
}

// declared returns the names of the copied types and constants.
func (c *copier) declared() map[string]bool {
	declared := map[string]bool{}
	for _, obj := range c.types {
		declared[obj.Name()] = true
		for _, constant := range c.sources[obj.Pkg().Path()].Declaration(obj).Constants {
			declared[constant.Name] = true
		}
	}
	return declared
}

// value reports values whose encoding depends on methods, which are not copied.
func (c *copier) value(t *scan.Task, what string, v *scan.Type) {
	id := v.ID()
	if c.checked[id] {
		return
	}
	c.checked[id] = true
	if v.Kind == scan.Custom && c.copies(v.Go) {
		c.problem(t, "%s has the type %s, which marshals itself; move the type to a package without tasks", what, id)
	}
	for _, part := range []*scan.Type{v.Key, v.Elem} {
		if part != nil && part.Go != nil {
			c.value(t, what, part)
		}
	}
	for _, f := range v.Fields {
		if f.OmitEmpty && f.Type.IsZero && c.copies(f.Type.Go) {
			c.problem(t, "%s has a field %s that its IsZero method omits; move its type to a package without tasks", what, f.Name())
		}
		c.value(t, what, f.Type)
	}
}

// copies reports whether a type, or its element, is declared again.
func (c *copier) copies(t types.Type) bool {
	t = types.Unalias(t)
	if p, ok := t.(*types.Pointer); ok {
		t = types.Unalias(p.Elem())
	}
	named, ok := t.(*types.Named)
	return ok && named.Obj().Pkg() != nil && c.sources[named.Obj().Pkg().Path()] != nil
}

// visit finds the types that the expression of typ names.
func (c *copier) visit(t *scan.Task, typ types.Type) {
	switch typ := typ.(type) {
	case *types.Alias:
		c.visitAlias(t, typ)
	case *types.Named:
		if alias := c.aliases[types.TypeString(typ, nil)]; alias != nil {
			c.visitAlias(t, alias)
			return
		}
		c.arguments(t, typ.TypeArgs())
		if c.object(t, typ.Obj()) {
			c.constraints(t, typ.Obj(), typ.Origin().TypeParams())
			c.visit(t, typ.Origin().Underlying())
		}
	case *types.Pointer:
		c.visit(t, typ.Elem())
	case *types.Slice:
		c.visit(t, typ.Elem())
	case *types.Array:
		c.visit(t, typ.Elem())
	case *types.Map:
		c.visit(t, typ.Key())
		c.visit(t, typ.Elem())
	case *types.Struct:
		c.visitFields(t, typ)
	}
}

// visitAlias is visit for an alias. An alias of an internal package is written as the
// type that it stands for.
func (c *copier) visitAlias(t *scan.Task, alias *types.Alias) {
	c.arguments(t, alias.TypeArgs())
	obj := alias.Obj()
	if obj.Pkg() != nil && c.sources[obj.Pkg().Path()] == nil && internal(obj.Pkg().Path()) {
		c.visit(t, types.Unalias(alias))
	} else if c.object(t, obj) {
		c.constraints(t, obj, alias.Origin().TypeParams())
		c.visit(t, alias.Origin().Rhs())
	}
}

func (c *copier) visitFields(t *scan.Task, s *types.Struct) {
	for i := range s.NumFields() {
		if encoded(s.Tag(i)) {
			c.visit(t, s.Field(i).Type())
		}
	}
}

func (c *copier) arguments(t *scan.Task, args *types.TypeList) {
	for arg := range args.Types() {
		c.visit(t, arg)
	}
}

// object adds a type if it must be declared again, and reports whether its parts must
// be visited, which is once.
func (c *copier) object(t *scan.Task, obj *types.TypeName) bool {
	if obj.Pkg() == nil || c.seen[obj] {
		return false
	}
	c.seen[obj] = true
	path := obj.Pkg().Path()
	src := c.sources[path]
	if src == nil {
		c.foreign(t, obj)
		return false
	}
	c.claim(t, obj.Name(), path)
	for _, constant := range src.Declaration(obj).Constants {
		c.claim(t, constant.Name, path)
	}
	c.types = append(c.types, obj)
	return true
}

// foreign reports a type of another package that the client cannot import, and notes
// one that it imports.
func (c *copier) foreign(t *scan.Task, obj *types.TypeName) {
	switch path := obj.Pkg().Path(); {
	case !scan.Importable(path, c.path):
		c.problem(t, "%s.%s cannot be imported by the client; move it out of an internal package", path, obj.Name())
	case obj.Pkg().Name() == "main":
		c.problem(t, "%s.%s is in package main, which cannot be imported", path, obj.Name())
	default:
		c.imported = append(c.imported, reference{t, obj})
	}
}

// withoutWorkers reports types that would link tasks into the client's programs.
func (c *copier) withoutWorkers(find func(paths []string) (map[string]string, error)) error {
	paths := map[string]bool{}
	for _, r := range c.imported {
		paths[r.obj.Pkg().Path()] = true
	}
	if len(paths) == 0 {
		return nil
	}
	workers, err := find(slices.Sorted(maps.Keys(paths)))
	if err != nil {
		return err
	}
	for _, r := range c.imported {
		c.refuseWorker(r, workers[r.obj.Pkg().Path()])
	}
	slices.SortStableFunc(c.problems, func(a, b scan.Problem) int {
		return cmp.Or(strings.Compare(a.Pos.Filename, b.Pos.Filename), cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return nil
}

// refuseWorker reports a type whose package would link the tasks of worker; "" is none.
func (c *copier) refuseWorker(r reference, worker string) {
	switch path, name := r.obj.Pkg().Path(), r.obj.Name(); worker {
	case "":
	case path:
		c.problem(r.task, "%s.%s would link the tasks of its package into the client; generate for that package too, so that the type is copied, or move the type", path, name)
	default:
		c.problem(r.task, "%s.%s would link the tasks of %s, which its package imports, into the client; move the type", path, name, worker)
	}
}

// constraints reports type parameters whose constraints would have to be copied too.
func (c *copier) constraints(t *scan.Task, obj *types.TypeName, params *types.TypeParamList) {
	for p := range params.TypeParams() {
		switch constraint := types.Unalias(p.Constraint()).(type) {
		case *types.Named:
			if named := constraint.Obj(); named.Pkg() != nil && c.sources[named.Pkg().Path()] != nil {
				c.problem(t, "type %s has the constraint %s, which is not copied; move the type to a package without tasks", obj.Name(), named.Name())
			} else if named.Pkg() != nil {
				c.foreign(t, named)
			}
		case *types.Interface:
			if strings.Contains(types.TypeString(constraint, nil), ".") {
				c.problem(t, "type %s has a constraint that names other types, which is not copied; move the type to a package without tasks", obj.Name())
			}
		}
	}
}
