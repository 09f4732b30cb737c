package render

import (
	"cmp"
	"go/types"
	"slices"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// receiver is one type whose methods are tasks.
type receiver struct {
	named   *types.Named
	pointer bool   // a method has a pointer receiver
	name    string // name of the argument of Tasks
}

// receivers returns the types whose methods are tasks, sorted by name.
func (g *generator) receivers() []*receiver {
	var all []*receiver
	byName := map[string]*receiver{}
	for _, t := range g.pkg.Tasks {
		if t.Receiver == nil {
			continue
		}
		r := byName[t.Receiver.Obj().Name()]
		if r == nil {
			r = &receiver{named: t.Receiver}
			byName[t.Receiver.Obj().Name()] = r
			all = append(all, r)
		}
		r.pointer = r.pointer || t.Pointer
	}
	slices.SortFunc(all, func(a, b *receiver) int {
		return cmp.Compare(a.named.Obj().Name(), b.named.Obj().Name())
	})
	used := map[string]bool{}
	for _, r := range all {
		r.name = g.names.receiver(r.named, used)
	}
	return all
}

// tasks renders the function that binds definitions to functions.
func (g *generator) tasks() {
	g.runtime("Task") // named before the receivers
	g.context()
	receivers := g.receivers()
	var args []jen.Code
	for _, r := range receivers {
		arg := jen.Id(r.name)
		if r.pointer {
			arg.Op("*")
		}
		args = append(args, arg.Id(r.named.Obj().Name()))
	}
	g.comment("Tasks returns the tasks of this package, for a consumer, a scheduler or taskapp.Main.")
	g.file.Func().Id("Tasks").Params(args...).Index().Add(g.runtime("Task")).Block(
		jen.Return(jen.Index().Add(g.runtime("Task")).ValuesFunc(func(list *jen.Group) {
			for _, t := range g.pkg.Tasks {
				list.Line().Add(g.bind(t, receivers))
			}
			list.Line()
		})),
	)
	g.file.Line()
}

// bind renders one element of the list that Tasks returns.
func (g *generator) bind(t *scan.Task, receivers []*receiver) *jen.Statement {
	ctx, p := g.names.local("ctx"), g.names.local("p")
	args := []jen.Code{jen.Id(ctx)}
	for _, q := range t.Params {
		args = append(args, jen.Id(p).Dot(q.Field))
	}
	if len(t.Params) == 0 {
		p = "_"
	}
	call, bind, returned := function(t, receivers).Call(args...), "Bind", g.result(t)
	switch {
	case t.ReturnsCall:
		bind, returned = "BindCall", g.runtime("Call").Types(returned)
	case t.Result == nil:
		call = jen.List(g.runtime("None").Values(), call)
	}
	return g.runtime(bind).Call(
		jen.Id(t.DefinitionName()),
		jen.Func().Params(jen.Id(ctx).Add(g.context()), jen.Id(p).Op("*").Id(t.ParamsName())).
			Params(returned, jen.Error()).Block(jen.Return(call)),
	)
}

// function renders the name of a task's function, or of its method of an argument of
// Tasks.
func function(t *scan.Task, receivers []*receiver) *jen.Statement {
	for _, r := range receivers {
		if t.Receiver != nil && r.named.Obj().Name() == t.Receiver.Obj().Name() {
			return jen.Id(r.name).Dot(t.Func)
		}
	}
	return jen.Id(t.Func)
}

// result returns the result type of the task's handle.
func (g *generator) result(t *scan.Task) *jen.Statement {
	if t.Result == nil {
		return g.runtime("None")
	}
	return g.typ(t.Result.Go)
}

// definition renders the part of a task that callers and consumers share.
func (g *generator) definition(t *scan.Task) {
	method := func(name string) *jen.Statement {
		return jen.Parens(jen.Op("*").Id(t.ParamsName())).Dot(name)
	}
	fields := []field{
		{"Spec", g.runtime("Spec").Values(lines(g.spec(t))...)},
		{"AppendParams", method("AppendMsgpack")},
		{"ReadParams", method("ReadMsgpack")},
	}
	if t.Result != nil {
		fields = append(fields,
			field{"AppendResult", g.appendFunc(t.Result)},
			field{"ReadResult", g.readFunc(t.Result)},
		)
	}
	if keys := g.keys(t); len(keys) > 0 {
		fields = append(fields, field{"Keys", g.runtime("Keys").Types(jen.Id(t.ParamsName())).Values(lines(keys)...)})
	}
	g.comment(t.DefinitionName() + " defines " + g.link(t) + ".")
	g.file.Var().Id(t.DefinitionName()).Op("=").Op("&").Add(g.runtime("Definition")).
		Types(jen.Id(t.ParamsName()), g.result(t)).Values(lines(fields)...)
	g.file.Line()
}

// field is one field of a composite literal.
type field struct {
	name  string
	value *jen.Statement
}

// lines renders the fields of a composite literal, one on a line.
func lines(fields []field) []jen.Code {
	var list []jen.Code
	for _, f := range fields {
		list = append(list, jen.Line().Id(f.name).Op(":").Add(f.value))
	}
	return append(list, jen.Line())
}

// stub renders the function that queues one run.
func (g *generator) stub(t *scan.Task) {
	free := g.freeIn(t)
	ctx, opts := fresh(free, "ctx", "runCtx"), fresh(free, "opts", "queueOpts")
	params, values := g.stubParams(t, free, nil)
	args := append([]jen.Code{jen.Id(ctx).Add(g.context())}, params...)
	args = append(args, jen.Id(opts).Op("...").Add(g.runtime("QueueOption")))
	g.comment(g.stubDoc(t))
	g.file.Func().Id(t.StubName()).Params(args...).
		Params(jen.Op("*").Add(g.runtime("Handle")).Types(g.result(t)), jen.Error()).
		Block(jen.Return(g.runtime("Queue").Call(
			jen.Id(ctx), jen.Id(t.DefinitionName()), jen.Op("&").Id(t.ParamsName()).Values(values...), jen.Id(opts).Op("..."),
		)))
	g.file.Line()
}

// freeIn returns a function that reports whether a stub of the task can use a name
// besides its parameters.
func (g *generator) freeIn(t *scan.Task) func(name string) bool {
	used := map[string]bool{}
	for _, p := range t.Params {
		used[p.Name] = true
	}
	return func(name string) bool { return !used[name] && !g.names.declared[name] && !g.names.used[name] }
}

// stubParams renders the task's parameters for a stub, and the fields of its params
// value. Parameters that would hide a name of the body, such as those in used, get another.
func (g *generator) stubParams(t *scan.Task, free func(name string) bool, used map[string]bool) (params, values []jen.Code) {
	for _, p := range t.Params {
		name := p.Name
		if name == t.ParamsName() || name == t.DefinitionName() || used[name] {
			name = fresh(free, name+"Value")
		}
		params = append(params, jen.Id(name).Add(g.typ(p.Type.Go)))
		values = append(values, jen.Id(p.Field).Op(":").Id(name))
	}
	return params, values
}

// call renders the function that makes a call.
func (g *generator) call(t *scan.Task) {
	params, values := g.stubParams(t, g.freeIn(t), nil)
	g.comment(t.CallName() + " is a run of " + g.link(t) + " that is not queued yet; see [taskrt.Call].")
	g.file.Func().Id(t.CallName()).Params(params...).Add(g.runtime("Call")).Types(g.result(t)).
		Block(jen.Return(g.runtime("NewCall").Call(
			jen.Id(t.DefinitionName()), jen.Op("&").Id(t.ParamsName()).Values(values...),
		)))
	g.file.Line()
}

// next renders the function that makes a follow-up, whose first parameter is the result of
// the run before it.
func (g *generator) next(t *scan.Task) {
	first := t.Params[0]
	used := map[string]bool{}
	g.namesIn(first.Type.Go, used)
	params, values := g.stubParams(t, g.freeIn(t), used)
	g.comment(t.NextName() + " is a run of " + g.link(t) + " that follows another, whose result is its " + first.Name + "; see [taskrt.Next].")
	g.file.Func().Id(t.NextName()).Params(params[1:]...).
		Add(g.runtime("Next")).Types(g.typ(first.Type.Go), g.result(t)).
		Block(jen.Return(g.runtime("NewNext").Types(g.typ(first.Type.Go)).Call(
			jen.Id(t.DefinitionName()), jen.Lit(first.Name), jen.Op("&").Id(t.ParamsName()).Values(values[1:]...),
		)))
	g.file.Line()
}

// handle renders the function that makes a handle from an id.
func (g *generator) handle(t *scan.Task) {
	ctx, id, opts := g.names.local("ctx"), g.names.local("id"), g.names.local("opts")
	g.comment(t.HandleName() + " returns the handle of a run of " + g.link(t) + " by its id; see [taskrt.HandleOf].")
	g.file.Func().Id(t.HandleName()).
		Params(
			jen.Id(ctx).Add(g.context()), jen.Id(id).String(),
			jen.Id(opts).Op("...").Add(g.runtime("QueueOption")),
		).
		Params(jen.Op("*").Add(g.runtime("Handle")).Types(g.result(t))).
		Block(jen.Return(g.runtime("HandleOf").Call(
			jen.Id(ctx), jen.Id(t.DefinitionName()), jen.Id(id), jen.Id(opts).Op("..."),
		)))
	g.file.Line()
}

// stubDoc returns a stub's doc comment, made of the function's: "FetchData downloads"
// becomes "QueueFetchData queues [FetchData]: it downloads".
func (g *generator) stubDoc(t *scan.Task) string {
	head := t.StubName() + " queues " + g.link(t)
	if t.Doc == "" {
		return head + "."
	}
	if rest, ok := strings.CutPrefix(t.Doc, t.Func+" "); ok {
		return head + ": it " + rest
	}
	return head + ": " + t.Doc
}

// batch renders the function that queues many runs.
func (g *generator) batch(t *scan.Task) {
	ctx, params, opts := g.names.local("ctx"), g.names.local("params"), g.names.local("opts")
	g.comment(t.BatchName() + " queues a run of " + g.link(t) + " for each of params, all or none.")
	g.file.Func().Id(t.BatchName()).
		Params(
			jen.Id(ctx).Add(g.context()),
			jen.Id(params).Index().Id(t.ParamsName()),
			jen.Id(opts).Op("...").Add(g.runtime("QueueOption")),
		).
		Params(jen.Index().Op("*").Add(g.runtime("Handle")).Types(g.result(t)), jen.Error()).
		Block(jen.Return(g.runtime("QueueBatch").Call(
			jen.Id(ctx), jen.Id(t.DefinitionName()), jen.Id(params), jen.Id(opts).Op("..."),
		)))
	g.file.Line()
}
