package render

import (
	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

const tasktestPath = "github.com/taskgen/taskgen/tasktest"

// TestKitName returns the name of the package with the test kit of a package of tasks.
func TestKitName(pkg *scan.Package) string { return pkg.Name + "test" }

// TestKit returns the file of the package with the typed test kit of a package's exported
// tasks. It is deterministic.
func TestKit(pkg *scan.Package) ([]byte, error) {
	name := TestKitName(pkg)
	g := newGenerator(&scan.Package{
		Path: pkg.Path + "/" + name, Name: name,
		Declared: map[string]bool{"Kit": true, "New": true, "In": true, "OnQueue": true, "t": true, "k": true, "d": true, "name": true},
		Aliases:  pkg.Aliases,
	})
	g.file.HeaderComment(scan.Header)
	g.file.PackageComment("// Package " + name + " is the test kit of package " + pkg.Name + ". Only tests import it.")
	k := &testKit{g, pkg}
	k.kit()
	k.newKit()
	k.conditions()
	return g.source()
}

// testKit renders the test kit of a package.
type testKit struct {
	*generator
	tasks *scan.Package
}

// typed renders the type arguments of a task.
func (k *testKit) typed(t *scan.Task) []jen.Code {
	return []jen.Code{k.names.qual(k.tasks.Path, k.tasks.Name, t.ParamsName()), k.result(t)}
}

// field returns the field of a task. Kit is the embedded one.
func (k *testKit) field(t *scan.Task) string {
	if t.GoName == "Kit" {
		return "KitTask"
	}
	return t.GoName
}

func (k *testKit) kit() {
	k.comment("Kit is the tasks of package " + k.tasks.Name + " in a test.")
	k.file.Type().Id("Kit").StructFunc(func(body *jen.Group) {
		body.Op("*").Add(k.names.qual(tasktestPath, "tasktest", "Kit"))
		for _, t := range k.tasks.Tasks {
			if t.Exported {
				body.Id(k.field(t)).Op("*").Add(k.names.qual(tasktestPath, "tasktest", "Task")).Types(k.typed(t)...)
			}
		}
	})
	k.file.Line()
}

// newKit renders New. It takes the receivers of tasks; if the type of one is unexported, it
// takes the tasks.
func (k *testKit) newKit() {
	inner := newGenerator(k.tasks)
	args := []jen.Code{jen.Id("t").Add(k.names.qual("testing", "testing", "TB"))}
	var receivers []jen.Code
	exported := true
	for _, r := range inner.receivers() {
		arg := jen.Id(r.name)
		if r.pointer {
			arg.Op("*")
		}
		exported = exported && r.named.Obj().Exported()
		args = append(args, arg.Add(k.names.qual(k.tasks.Path, k.tasks.Name, r.named.Obj().Name())))
		receivers = append(receivers, jen.Id(r.name))
	}
	tasks := k.names.qual(k.tasks.Path, k.tasks.Name, "Tasks").Call(receivers...)
	doc := "New returns a kit for the tasks of package " + k.tasks.Name + "; see [tasktest.New]."
	if !exported {
		args = append(args[:1], jen.Id("set").Index().Add(k.runtime("Task")))
		tasks = jen.Id("set")
	}
	args = append(args, jen.Id("opts").Op("...").Add(k.names.qual(tasktestPath, "tasktest", "Option")))
	k.comment(doc)
	k.file.Func().Id("New").Params(args...).Op("*").Id("Kit").Block(
		jen.Id("t").Dot("Helper").Call(),
		jen.Id("k").Op(":=").Add(k.names.qual(tasktestPath, "tasktest", "New")).Call(jen.Id("t"), tasks, jen.Id("opts").Op("...")),
		jen.Return(jen.Op("&").Id("Kit").ValuesFunc(func(list *jen.Group) {
			list.Line().Id("Kit").Op(":").Id("k")
			for _, t := range k.tasks.Tasks {
				if t.Exported {
					list.Line().Id(k.field(t)).Op(":").Add(k.names.qual(tasktestPath, "tasktest", "Of")).Types(k.typed(t)...).
						Call(jen.Id("k"), jen.Lit(t.Name))
				}
			}
			list.Line()
		})),
	)
}

// conditions renders the conditions of QueuedWhere, so that most tests import this package only.
func (k *testKit) conditions() {
	condition := k.names.qual(tasktestPath, "tasktest", "Condition")
	k.file.Line()
	k.comment("In is met by a run that is due this long after its queueing; see [tasktest.In].")
	k.file.Func().Id("In").Params(jen.Id("d").Add(k.names.qual("time", "time", "Duration"))).Add(condition).
		Block(jen.Return(k.names.qual(tasktestPath, "tasktest", "In").Call(jen.Id("d"))))
	k.file.Line()
	k.comment("OnQueue is met by a run in that queue; see [tasktest.OnQueue].")
	k.file.Func().Id("OnQueue").Params(jen.Id("name").String()).Add(condition).
		Block(jen.Return(k.names.qual(tasktestPath, "tasktest", "OnQueue").Call(jen.Id("name"))))
}
