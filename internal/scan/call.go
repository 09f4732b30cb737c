package scan

import (
	"go/ast"
	"go/types"
)

// RuntimePath is the import path of the runtime, which tasks import as taskrt.
const RuntimePath = "github.com/taskgen/taskgen/runtime"

// runtimeName returns the name of a type that the runtime declares, or "".
func runtimeName(t types.Type) string {
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != RuntimePath {
		return ""
	}
	return named.Obj().Name()
}

func isCall(t types.Type) bool { return runtimeName(t) == "Call" }

// isNone reports whether t is taskrt.None, which is struct{}: no result.
func isNone(t types.Type) bool { return types.Identical(t, types.NewStruct(nil, nil)) }

// ofCall returns the result of a call in place of the call itself.
func (p parameter) ofCall() parameter {
	p.typ = types.Unalias(p.typ).(*types.Named).TypeArgs().At(0)
	if index, ok := ast.Unparen(p.expr).(*ast.IndexExpr); ok {
		p.name, p.expr = nil, index.Index
	}
	return p
}

// result sets the result of the task: what it returns, or what the call that it returns has
// as its result.
func (b *builder) result(p parameter) {
	if pointer, ok := types.Unalias(p.typ).(*types.Pointer); ok && isCall(pointer.Elem()) {
		b.fail(p.pos(), "task %s returns a pointer to a call; return %s itself", b.made.Func, b.conv.print(pointer.Elem()))
		return
	}
	if isCall(p.typ) {
		b.made.ReturnsCall = true
		p = p.ofCall()
		if isNone(p.typ) {
			return
		}
		if isCall(p.typ) {
			b.fail(p.pos(), "task %s returns a call whose result is a call; return %s: the task that it runs can return a call in its turn", b.made.Func, b.conv.print(p.typ))
			return
		}
	}
	b.made.Result = b.convert(p, "result", "result")
}

// hasCall reports whether one of the results is a call.
func hasCall(results *types.Tuple) bool {
	for v := range results.Variables() {
		if isCall(v.Type()) {
			return true
		}
	}
	return false
}

// ofRuntime returns the culprit if values of a type stand for runs, which are no data: a
// call, what follows one, or a handle.
func (c *converter) ofRuntime(named *types.Named, path string) *culprit {
	switch name := runtimeName(named); {
	case name == "Call" || name == "Next" || name == "Handle":
		return &culprit{path: path, why: "is of type " + c.print(named), runtime: name}
	case name == "" && disguised(named):
		return &culprit{path: path, why: "is of type " + c.print(named) + ", declared as a taskrt.Call", runtime: "type"}
	}
	return nil
}

// disguised reports whether a type is declared as one of the runtime's calls, and so is a
// type of its own.
func disguised(named *types.Named) bool {
	s, ok := named.Underlying().(*types.Struct)
	if !ok || s.NumFields() == 0 || s.Field(0).Pkg() == nil || s.Field(0).Pkg().Path() != RuntimePath {
		return false
	}
	call := s.Field(0).Pkg().Scope().Lookup("Call")
	return call != nil && types.Identical(s, call.Type().Underlying())
}

// insteadOf returns what to do instead of a parameter or result that is, or has within it,
// a type of the runtime.
func insteadOf(runtime string, isParam bool) string {
	switch {
	case runtime == "Handle":
		return "; send its ID, of which the task's generated Handle function makes a handle"
	case isParam && runtime == "Next":
		return "; a Next cannot be a parameter: take the parameters that it needs, and make it in the task"
	case isParam:
		return "; a call cannot be a parameter: take the parameters that it needs, and make it in the task"
	case runtime == "Next":
		return ", which follows a run; return a taskrt.Call: taskrt.Then joins a call and a Next"
	case runtime == "type":
		return "; declare it as an alias, with = before the type"
	}
	return "; a task returns one call, with nothing around it and only an error beside it: taskrt.Group joins several"
}
