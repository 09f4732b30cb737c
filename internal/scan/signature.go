package scan

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
	"github.com/taskgen/taskgen/internal/naming"
)

// maxParams is far more than a readable function has, and fits the bit set of read
// parameters.
const maxParams = 64

// shapeHint is the form of a task's signature.
const shapeHint = "write func(ctx context.Context, params…) error or (R, error)"

// builder makes one task of one annotated function.
type builder struct {
	*pass
	src  *source
	conv *converter
	file *ast.File
	fn   *ast.FuncDecl // nil if the comment is no function's
	made *Task
	bad  bool // a problem with it was reported
}

// fail reports a problem with the function, which makes no task then.
func (b *builder) fail(pos token.Pos, format string, args ...any) {
	b.bad = true
	b.problem(b.src.Package, pos, format, args...)
}

// task returns the function as a task, or nil if it cannot be one.
func (b *builder) task(options directive.Options) *Task {
	fn := b.fn
	sig := b.signature()
	if sig == nil {
		return nil
	}
	b.made = &Task{
		Options:  options,
		Func:     fn.Name.Name,
		GoName:   fn.Name.Name,
		Exported: fn.Name.IsExported(),
		Doc:      doc(fn),
		Pos:      b.position(fn.Name.Pos()),
		namePos:  cmp.Or(options.NamePos, fn.Name.Pos()),
	}
	wire := snakeCase(fn.Name.Name)
	if fn.Recv != nil {
		if !b.receiver(sig) {
			return nil
		}
		wire = snakeCase(b.made.Receiver.Obj().Name()) + "_" + wire
	}
	b.params(sig)
	b.results(sig)
	b.name(wire)
	b.options()
	if b.bad {
		return nil
	}
	return b.made
}

// signature returns the type of the function. It reports a function that cannot be a
// task whatever its parameters are, and then returns nil.
func (b *builder) signature() *types.Signature {
	name := b.fn.Name
	obj, _ := b.src.info.Defs[name].(*types.Func)
	switch {
	case name.Name == "_", name.Name == "init" && b.fn.Recv == nil:
		b.fail(name.Pos(), "function %s cannot be a task: nothing can call it", name.Name)
		return nil
	case obj == nil:
		b.fail(name.Pos(), "function %s is declared twice in this package", name.Name)
		return nil
	case b.fn.Type.TypeParams != nil:
		b.fail(b.fn.Type.TypeParams.Pos(), "generic function %s cannot be a task; write a function for each instance", name.Name)
		return nil
	}
	return obj.Signature()
}

// name sets the task's name.
func (b *builder) name(wire string) {
	b.made.Name = cmp.Or(b.made.Options.Name, wire)
	switch {
	case b.made.Options.Name != "": // its directive reports it
	case len(b.made.Name) > naming.Max:
		b.fail(b.made.namePos, "a task name of %d bytes, made of the function's name, is too long; the limit is %d: add //task:name", len(b.made.Name), naming.Max)
	case naming.Problem(b.made.Name) != "":
		b.fail(b.made.namePos, "task name %q, made of the function's name, is not one; add //task:name", b.made.Name)
	}
}

// receiver sets the type that the method belongs to.
func (b *builder) receiver(sig *types.Signature) bool {
	t := types.Unalias(sig.Recv().Type())
	pos := b.fn.Recv.List[0].Type.Pos()
	if p, ok := t.(*types.Pointer); ok {
		b.made.Pointer = true
		t = types.Unalias(p.Elem())
	}
	named, ok := t.(*types.Named)
	switch {
	case !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != b.src.types.Path():
		b.fail(pos, "method %s has a receiver that is not declared in this package", b.made.Func)
		return false
	case named.TypeParams().Len() > 0:
		b.fail(pos, "method %s of generic type %s cannot be a task; write a function for each instance", b.made.Func, named.Obj().Name())
		return false
	}
	b.made.Receiver = named
	b.made.Exported = b.made.Exported && named.Obj().Exported()
	b.made.GoName = methodName(named.Obj().Name(), b.made.Func)
	return true
}

// methodName returns the stem of a method's generated names.
func methodName(receiver, method string) string {
	name := receiver + upperFirst(method)
	if !token.IsExported(receiver) || !token.IsExported(method) {
		return naming.Unexported(name)
	}
	return name
}

// parameter is one parameter in the source and its type.
type parameter struct {
	name *ast.Ident // nil if unnamed
	expr ast.Expr
	typ  types.Type
}

func (p parameter) pos() token.Pos {
	if p.name != nil {
		return p.name.Pos()
	}
	return p.expr.Pos()
}

// flatten returns parameters one by one; Go groups those of one type.
func flatten(list *ast.FieldList, tuple *types.Tuple) []parameter {
	var all []parameter
	for _, field := range list.List {
		if len(field.Names) == 0 {
			all = append(all, parameter{expr: field.Type, typ: tuple.At(len(all)).Type()})
		}
		for _, name := range field.Names {
			all = append(all, parameter{name: name, expr: field.Type, typ: tuple.At(len(all)).Type()})
		}
	}
	return all
}

func (b *builder) params(sig *types.Signature) {
	all := flatten(b.fn.Type.Params, sig.Params())
	if len(all) == 0 {
		b.fail(b.fn.Type.Params.Pos(), "task %s has no context; %s", b.made.Func, shapeHint)
		return
	}
	if !isContext(all[0].typ) {
		b.fail(all[0].pos(), "the first parameter of task %s must be a context.Context; %s", b.made.Func, shapeHint)
		return
	}
	if len(all)-1 > maxParams {
		b.fail(b.fn.Type.Params.Pos(), "task %s has %d parameters; the limit is %d: put them in a struct", b.made.Func, len(all)-1, maxParams)
		return
	}
	b.addParams(all[1:])
}

// addParams adds the parameters after the context. Each has a field of its own.
func (b *builder) addParams(all []parameter) {
	fields := map[string]string{}
	for _, p := range all {
		param := b.param(p)
		if param == nil {
			continue
		}
		if other, twice := fields[param.Field]; twice {
			b.fail(p.pos(), "parameters %s and %s would both be the field %s of %s; rename one", other, param.Name, param.Field, b.made.ParamsName())
		}
		fields[param.Field] = param.Name
		b.made.Params = append(b.made.Params, param)
	}
}

func isContext(t types.Type) bool {
	named, ok := types.Unalias(t).(*types.Named)
	return ok && named.Obj().Name() == "Context" && named.Obj().Pkg() != nil && named.Obj().Pkg().Path() == "context"
}

// param returns one parameter, or reports why it cannot be one.
func (b *builder) param(p parameter) *Param {
	if p.name == nil || p.name.Name == "_" {
		b.fail(p.pos(), "a parameter of task %s has no name; it is its key on the wire", b.made.Func)
		return nil
	}
	if _, variadic := p.expr.(*ast.Ellipsis); variadic {
		b.fail(p.pos(), "parameter %s is variadic; use a slice", p.name.Name)
		return nil
	}
	name := p.name.Name
	if isContext(p.typ) {
		b.fail(p.pos(), "a task has one context, the first parameter; remove %s", name)
		return nil
	}
	field := fieldName(name)
	if slices.Contains([]string{"AppendMsgpack", "ReadMsgpack", "EncodeMsgpack", "DecodeMsgpack"}, field) {
		b.fail(p.pos(), "parameter %s would be the field %s of %s, which has a method of that name; rename it", name, field, b.made.ParamsName())
		return nil
	}
	t := b.convert(p, "parameter "+name, name)
	if t == nil {
		return nil
	}
	return &Param{Name: name, Field: field, Type: t, expr: p.expr, pos: p.pos()}
}

// results checks the results: error, (R, error) or (taskrt.Call[R], error).
func (b *builder) results(sig *types.Signature) {
	pos := b.fn.Type.End()
	if b.fn.Type.Results != nil {
		pos = b.fn.Type.Results.Pos()
	}
	n := sig.Results().Len()
	if n == 0 || !isError(sig.Results().At(n-1).Type()) {
		b.fail(pos, "task %s must return an error last; %s", b.made.Func, shapeHint)
		return
	}
	switch {
	case n > 2 && hasCall(sig.Results()):
		b.fail(pos, "task %s returns %d values; beside a call, return only an error", b.made.Func, n)
	case n > 2:
		b.fail(pos, "task %s returns %d values; return a struct and an error", b.made.Func, n)
	case n == 2:
		b.result(flatten(b.fn.Type.Results, sig.Results())[0])
	}
}

func isError(t types.Type) bool {
	return types.Identical(types.Unalias(t), types.Universe.Lookup("error").Type())
}

// convert returns the type of a parameter or result, or reports which part of it
// cannot be encoded.
func (b *builder) convert(p parameter, what, path string) *Type {
	if name := b.undeclaredParams(p.expr); name != "" {
		b.fail(p.pos(), "%s", generatedParams(name))
		return nil
	}
	if why := b.undeclared(p); why != "" {
		b.fail(p.pos(), "%s: %s", what, why)
		return nil
	}
	t, bad := b.conv.convert(p.typ, path)
	if bad != nil {
		b.refuse(p, what, path, bad)
		return nil
	}
	if name := namesUnexported(p.typ, b.src.types); name != "" && b.made.Exported {
		b.fail(p.pos(), "%s has the unexported type %s, but %s is exported; export the type or unexport the function", what, name, b.made.StubName())
		return nil
	}
	return t
}

// refuse reports the part of a parameter or result that cannot be encoded.
func (b *builder) refuse(p parameter, what, path string, bad *culprit) {
	if bad.generated != "" {
		b.fail(p.pos(), "%s", generatedParams(bad.generated))
		return
	}
	if bad.path == path {
		bad.path = "it"
	}
	if bad.runtime != "" {
		bad.why += insteadOf(bad.runtime, what != "result")
	}
	b.fail(p.pos(), "%s cannot be encoded: %s", what, bad)
}

// undeclared returns the type error that keeps a type from resolving.
func (b *builder) undeclared(p parameter) string {
	if name := cTypeIn(p.expr); name != "" && importsC(b.file) {
		return fmt.Sprintf("type %s is C's; %s", name, insteadOfC(name))
	}
	for _, e := range b.src.errors {
		if p.expr.Pos() <= e.Pos && e.Pos < p.expr.End() {
			return e.Msg
		}
	}
	if basic, ok := p.typ.(*types.Basic); !ok || basic.Kind() != types.Invalid {
		return ""
	}
	return cmp.Or(b.failedImport(p.expr), "its type is not declared")
}

// failedImport returns the error of a failed import in the file of the type.
func (b *builder) failedImport(expr ast.Expr) string {
	qualifiers := qualifiersIn(expr)
	file := b.position(expr.Pos()).Filename
	for _, e := range b.src.errors {
		rest, failed := strings.CutPrefix(e.Msg, "could not import ")
		importPath, _, _ := strings.Cut(rest, " ")
		if failed && qualifiers[path.Base(importPath)] && b.position(e.Pos).Filename == file {
			return e.Msg
		}
	}
	return ""
}

// qualifiersIn returns the names before the dots of an expression, as in time.Time.
func qualifiersIn(expr ast.Expr) map[string]bool {
	qualifiers := map[string]bool{}
	ast.Inspect(expr, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok {
				qualifiers[id.Name] = true
			}
		}
		return true
	})
	return qualifiers
}
