package compat

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
	"github.com/taskgen/taskgen/internal/schema"
)

// At returns the tasks of the module in dir as the commit that ref names has
// them, by its generated code. It is an error when there is none.
func At(ctx context.Context, dir, ref string) ([]*Task, error) {
	s, err := openSnapshot(ctx, dir, ref)
	if err != nil {
		return nil, err
	}
	blobs, err := s.files(ctx, func(name string) bool {
		return path.Base(name) == scan.OutputName && !ignored(strings.TrimPrefix(name, s.module))
	})
	if err != nil {
		return nil, err
	}
	var tasks []*Task
	generated := false
	for _, b := range blobs {
		if !scan.IsOutput(b.data) {
			continue
		}
		generated = true
		found, err := parse(b.data)
		if err != nil {
			return nil, fmt.Errorf("read %s:%s: %w", ref, b.path, err)
		}
		for _, t := range found {
			t.Dir = strings.Trim(strings.TrimPrefix(path.Dir(b.path), s.module), "/")
			if t.Dir == "" {
				t.Dir = "."
			}
		}
		tasks = append(tasks, found...)
	}
	if !generated {
		return nil, fmt.Errorf("no %s at %s: there is nothing to compare with", scan.OutputName, ref)
	}
	return tasks, nil
}

// ignored reports whether the go command's patterns leave a path out.
func ignored(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return dir == "testdata" || dir == "vendor" || dir != "." && strings.HasPrefix(dir, ".") || strings.HasPrefix(dir, "_")
	})
}

// parse finds the tasks of a generated file: the literals of taskrt.Spec in
// its variables. Nothing but literals is looked at.
func parse(src []byte) ([]*Task, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("it does not parse: %s", strings.TrimLeft(err.Error(), ":"))
	}
	var tasks []*Task
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range specs(gen) {
			t, err := spec.task(file)
			if err != nil {
				return nil, err
			}
			tasks = append(tasks, t)
		}
	}
	return tasks, nil
}

// definition is one literal of taskrt.Definition.
type definition struct {
	params string // the name of its type of parameters
	spec   map[string]ast.Expr
}

// specs finds the definitions in a declaration of variables.
func specs(gen *ast.GenDecl) []definition {
	var found []definition
	for _, s := range gen.Specs {
		value, ok := s.(*ast.ValueSpec)
		if !ok || len(value.Values) != 1 {
			continue
		}
		pointer, ok := value.Values[0].(*ast.UnaryExpr)
		if !ok {
			continue
		}
		literal, ok := pointer.X.(*ast.CompositeLit)
		if !ok {
			continue
		}
		generic, ok := literal.Type.(*ast.IndexListExpr)
		if !ok || selected(generic.X) != "Definition" || len(generic.Indices) != 2 {
			continue
		}
		spec, ok := fields(literal)["Spec"].(*ast.CompositeLit)
		if !ok {
			continue
		}
		params, _ := generic.Indices[0].(*ast.Ident)
		if params != nil {
			found = append(found, definition{params: params.Name, spec: fields(spec)})
		}
	}
	return found
}

func selected(e ast.Expr) string {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		return sel.Sel.Name
	}
	return ""
}

// fields are a composite literal's values by their names.
func fields(literal *ast.CompositeLit) map[string]ast.Expr {
	all := map[string]ast.Expr{}
	for _, e := range literal.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok {
				all[key.Name] = kv.Value
			}
		}
	}
	return all
}

// task reads what the literal says.
func (d definition) task(file *ast.File) (*Task, error) {
	name, err := text(d.spec["Name"])
	if err != nil || name == "" {
		return nil, errors.New("a task has no name that is a string literal")
	}
	t := &Task{Name: name, Keeps: d.spec["Keep"] != nil, Ticks: d.spec["Schedule"] != nil}
	fail := func(what string, err error) (*Task, error) {
		return nil, fmt.Errorf("task %s: %s: %w", name, what, err)
	}
	if list, ok := d.spec["Aliases"].(*ast.CompositeLit); ok {
		for _, e := range list.Elts {
			alias, err := text(e)
			if err != nil {
				return fail("aliases", err)
			}
			t.Aliases = append(t.Aliases, alias)
		}
	}
	params, err := text(d.spec["Params"])
	if err != nil {
		return fail("parameters", err)
	}
	if params == "" && hasFields(file, d.params) {
		return nil, fmt.Errorf("task %s: its parameters are not described: that code was generated before taskgen could compare", name)
	}
	if t.Params, err = schema.ParseParams(params); err != nil {
		return fail("parameters", err)
	}
	result, err := text(d.spec["Result"])
	if err != nil {
		return fail("result", err)
	}
	if result != "" {
		if t.Result, err = schema.Parse(result); err != nil {
			return fail("result", err)
		}
	}
	return t, nil
}

// text is a string literal's value; "" when there is none.
func text(e ast.Expr) (string, error) {
	if e == nil {
		return "", nil
	}
	literal, ok := e.(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", errors.New("not a string literal")
	}
	return strconv.Unquote(literal.Value)
}

// hasFields reports whether a struct type of the file has any.
func hasFields(file *ast.File, name string) bool {
	found := false
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && spec.Name.Name == name {
			s, ok := spec.Type.(*ast.StructType)
			found = ok && len(s.Fields.List) > 0
		}
		return !found
	})
	return found
}
