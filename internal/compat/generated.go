package compat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
	"github.com/taskgen/taskgen/internal/schema"
)

// At returns the tasks of the module in dir at the commit that ref names, from its
// generated code. It returns none if the module has no tasks there, and an error if it has
// tasks without generated code.
func At(ctx context.Context, dir, ref string) ([]*Task, error) {
	s, err := openSnapshot(ctx, dir, ref)
	if err != nil {
		return nil, err
	}
	blobs, err := s.generated(ctx)
	if err == nil && len(blobs) == 0 {
		blobs, err = s.elsewhere(ctx, dir, ref)
	}
	if err != nil {
		return nil, err
	}
	var tasks []*Task
	for _, b := range blobs {
		found, err := parse(b.data)
		if err != nil {
			return nil, fmt.Errorf("read %s:%s: %w", ref, b.path, err)
		}
		for _, t := range found {
			t.Dir = s.packageDir(b.path)
		}
		tasks = append(tasks, found...)
	}
	return tasks, nil
}

// generated returns the module's generated code.
func (s *snapshot) generated(ctx context.Context) ([]blob, error) {
	blobs, err := s.files(ctx, func(name string) bool {
		return path.Base(name) == scan.OutputName && !ignored(strings.TrimPrefix(name, s.module))
	})
	return slices.DeleteFunc(blobs, func(b blob) bool { return !scan.IsOutput(b.data) }), err
}

// In returns the tasks of the generated code in dir, none if there is none. They have no
// Dir.
func In(dir string) ([]*Task, error) {
	src, err := scan.ReadFile(filepath.Join(dir, scan.OutputName))
	if errors.Is(err, fs.ErrNotExist) || err == nil && !scan.IsOutput(src) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read generated code: %w", err)
	}
	return parse(src)
}

// packageDir returns the directory of a file below the module, "." for the module's own.
func (s *snapshot) packageDir(file string) string {
	return cmp.Or(strings.Trim(strings.TrimPrefix(path.Dir(file), s.module), "/"), ".")
}

// ignored reports whether the go command's patterns exclude a path.
func ignored(name string) bool {
	return slices.ContainsFunc(strings.Split(path.Dir(name), "/"), func(dir string) bool {
		return dir == "testdata" || dir == "vendor" || dir != "." && strings.HasPrefix(dir, ".") || strings.HasPrefix(dir, "_")
	})
}

// parse returns the tasks of a generated file: the literals of taskrt.Spec in its
// variables. It evaluates nothing but literals.
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
		for _, d := range definitions(gen) {
			t, err := d.task(file)
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
	params string // name of its params type
	spec   map[string]ast.Expr
}

// definitions returns the definitions in a declaration of variables.
func definitions(gen *ast.GenDecl) []definition {
	var found []definition
	for _, s := range gen.Specs {
		value, ok := s.(*ast.ValueSpec)
		if !ok || len(value.Values) != 1 {
			continue
		}
		if d, ok := definitionOf(value.Values[0]); ok {
			found = append(found, d)
		}
	}
	return found
}

// definitionOf parses &taskrt.Definition[Params, Result]{Spec: taskrt.Spec{…}}. It
// reports false for any other expression.
func definitionOf(value ast.Expr) (definition, bool) {
	pointer, ok := value.(*ast.UnaryExpr)
	if !ok {
		return definition{}, false
	}
	literal, ok := pointer.X.(*ast.CompositeLit)
	if !ok {
		return definition{}, false
	}
	generic, ok := literal.Type.(*ast.IndexListExpr)
	if !ok || selected(generic.X) != "Definition" || len(generic.Indices) != 2 {
		return definition{}, false
	}
	params, isName := generic.Indices[0].(*ast.Ident)
	spec, hasSpec := fields(literal)["Spec"].(*ast.CompositeLit)
	if !isName || !hasSpec {
		return definition{}, false
	}
	return definition{params: params.Name, spec: fields(spec)}, true
}

func selected(e ast.Expr) string {
	if sel, ok := e.(*ast.SelectorExpr); ok {
		return sel.Sel.Name
	}
	return ""
}

// fields returns the values of a composite literal by field name.
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

// task returns the task that a literal defines.
func (d definition) task(file *ast.File) (*Task, error) {
	name, err := text(d.spec["Name"])
	if err != nil || name == "" {
		return nil, errors.New("a task has no name that is a string literal")
	}
	t := &Task{Name: name, Keeps: d.spec["Keep"] != nil, Ticks: d.spec["Schedule"] != nil}
	if t.Aliases, err = list(d.spec["Aliases"]); err != nil {
		return nil, fmt.Errorf("task %s: aliases: %w", name, err)
	}
	if err := d.addQueues(t); err != nil {
		return nil, fmt.Errorf("task %s: queue: %w", name, err)
	}
	if err := d.addPolicies(t); err != nil {
		return nil, fmt.Errorf("task %s: policies: %w", name, err)
	}
	params, err := text(d.spec["Params"])
	if err == nil && params == "" && hasFields(file, d.params) {
		return nil, fmt.Errorf("task %s: its code was generated by a taskgen that did not describe parameters yet", name)
	}
	if err == nil {
		t.Params, err = schema.ParseParams(params)
	}
	if err != nil {
		return nil, fmt.Errorf("task %s: parameters: %w", name, err)
	}
	if t.Result, err = d.result(); err != nil {
		return nil, fmt.Errorf("task %s: result: %w", name, err)
	}
	return t, nil
}

// addQueues sets the queues of the task.
func (d definition) addQueues(t *Task) (err error) {
	if t.Queue, err = text(d.spec["Queue"]); err != nil {
		return err
	}
	t.Queue = cmp.Or(t.Queue, DefaultQueue)
	t.From, err = list(d.spec["From"])
	return err
}

// addPolicies sets the policies of the task.
func (d definition) addPolicies(t *Task) (err error) {
	limit, by := fieldsOf(d.spec["Limit"]), fieldsOf(d.spec["By"])
	for _, p := range []struct {
		policy **Policy
		has    bool
		name   string
	}{
		{&t.Unique, d.spec["Unique"] != nil, "Unique"},
		{&t.Concurrency, limit["Concurrency"] != nil, "Concurrency"},
		{&t.Rate, limit["Rate"] != nil, "Rate"},
		{&t.Fair, d.spec["Fair"] != nil, "Fair"},
	} {
		if !p.has {
			continue
		}
		made := &Policy{}
		if made.By, err = list(by[p.name]); err != nil {
			return err
		}
		*p.policy = made
	}
	return nil
}

func fieldsOf(e ast.Expr) map[string]ast.Expr {
	literal, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil
	}
	return fields(literal)
}

// list returns the strings of a literal, nil if there is none.
func list(e ast.Expr) (texts []string, err error) {
	literal, ok := e.(*ast.CompositeLit)
	if !ok {
		return nil, nil
	}
	for _, e := range literal.Elts {
		one, err := text(e)
		if err != nil {
			return nil, err
		}
		texts = append(texts, one)
	}
	return texts, nil
}

// result returns the wire form of the result, or nil if there is none.
func (d definition) result() (*schema.Type, error) {
	result, err := text(d.spec["Result"])
	if err != nil || result == "" {
		return nil, err
	}
	return schema.Parse(result)
}

// text returns the value of a string literal, or "" if there is none.
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

// hasFields reports whether a struct type of the file has fields.
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
