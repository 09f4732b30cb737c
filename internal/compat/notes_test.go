package compat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/compat"
)

// TestNotes checks what the old version read or awaits beyond what it wrote.
func TestNotes(t *testing.T) {
	const (
		without = `is required now: v1 also read runs without it, of versions before it and of their schedules made at run time; `
		every   = "callers of v1 that wait for it could not read every value; keep the type until none are left"
		none    = "callers of v1 that wait for it could not read it; keep the type until none are left"
		oldName = `no longer reads its old name o: its values would be dropped in runs that versions before v1 queued, also in those that wait for a retry, and in ticks of their schedules made at run time; keep //task:rename x from=o until none are left`
	)
	for name, c := range map[string]struct{ old, present, want string }{
		"default":         {"a: x int=", "a: x int", `note: task a: parameter "x" ` + without + "keep //task:default x until none are left"},
		"pointer":         {"a: x *[int]", "a: x [int]", `note: task a: parameter "x" ` + without + "keep the pointer, or add //task:default x until none are left"},
		"pointer inside":  {"a: x {y *bytes}", "a: x {y bytes}", "note: task a: field x.y " + without + "keep the pointer until none are left"},
		"old name":        {"a: x|o int", "a: x int", `note: task a: parameter "x" ` + oldName},
		"old name of one": {"a: x|o int, y int", "a: x|y int, o int=", `note: task a: parameter "x" no longer reads its old name o, which parameter "o" reads now: runs that versions before v1 queued would have the value there; let those end first`},
		"alias": {"a, b: x int", "a: x int",
			"note: task a: its alias b is gone: nothing would execute the runs that versions before v1 queued under it, also those that wait for a retry, or the ticks of their schedules made at run time; keep //task:alias b until none are left"},
		"alias of another": {"a, b: x int", "a: x int; b: x int",
			"note: task a: its alias b is task b now, which would execute the runs that versions before v1 queued under it; let those end first"},
		"renamed and optional": {"a: x *int", "a: y|x *int",
			`note: task a: parameter "y" was x, which v1 does without: its consumers would execute runs of this version without the value; stop them before such runs are queued`},
		"another package":    {"a: x text(a.T)", "a: x text(b.T)", `note: task a: parameter "x" was of type a.T and is of type b.T, which marshals itself: taskgen cannot see whether it reads runs queued by v1; try it, or keep the type`},
		"wider argument":     {`a: x custom("a.O[int8]", "int8")`, `a: x custom("a.O[int]", "int")`, `note: task a: parameter "x" was custom("a.O[int8]", "int8") and is custom("a.O[int]", "int"), which marshals itself: taskgen cannot see whether it reads runs queued by v1; try it, or keep the type`},
		"wider result":       {"a: -> int8", "a: -> int64", "note: task a: the result was int8 and is int64: " + every},
		"nil of a result":    {"a: -> *binary(a.T)", "a: -> binary(a.T)", "task a: the result was *binary(a.T) and is binary(a.T): nil in results kept by v1 would become a zero value; keep the pointer: it may be nil there"},
		"result of pointers": {"a: -> {x int}", "a: -> {x *int}", "note: task a: result field x was int and is *int: " + every},
		"result of a list":   {"a: -> [3]int", "a: -> [int]", "note: task a: the result was [3]int and is [int]: " + every},
		"result of bytes":    {"a: -> string", "a: -> bytes", "task a: the result was string and is bytes: " + none},
		"result of floats":   {"a: -> {x int32}", "a: -> {x float64}", "task a: result field x was int32 and is float64: " + none},
		"longer float":       {"a: -> @N={x float32, n *@N}", "a: -> @N={x float64, n *@N}", "task a: result field x was float32 and is float64: " + none},
		"omitempty":          {"a: -> {x int}", "a: -> {x int?}", "task a: result field x may be missing now: callers of v1 that wait for the result require it; omit the tag option omitempty until none are left"},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, []string{c.want}, compare(t, c.old, c.present)) })
	}
}

func TestTypesThatMarshalThemselves(t *testing.T) {
	for name, c := range map[string][2]string{
		"nil of a pointer":         {"*text(net/netip.Addr)", "text(net/netip.Addr)"},
		"nil of pointers in a map": {"map[string]*custom(a.T)", "map[string]custom(a.T)"},
		"argument":                 {`custom("a.O[int]")`, `custom("a.O[string]")`},
		"narrower argument":        {`custom("a.O[int]", "int")`, `custom("a.O[int8]", "int8")`},
		"field of an argument":     {`marshaler("a.O[a.I]", "{v int}")`, `marshaler("a.O[a.I]", "{v int8}")`},
		"argument of an argument":  {`custom("a.O[a.P[b.I]]")`, `custom("a.O[a.P[b.J]]")`},
		"one of two arguments":     {`custom("a.O[string,int]", "string", "int")`, `custom("a.O[string,bool]", "string", "bool")`},
	} {
		t.Run(name, func(t *testing.T) {
			found := compare(t, "a: x "+c[0], "a: x "+c[1])
			require.Len(t, found, 1)
			require.NotContains(t, found[0], "note:")
		})
	}
	for name, c := range map[string][2]string{
		"argument that moved": {`custom("a.O[a/b.I]", "{v int}")`, `custom("a.O[c.I]", "{v int}")`},
		"no forms":            {`custom("a.O[a/b.I]")`, `custom("a.O[c.I]", "{v int}")`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, message := range compare(t, "a: x "+c[0], "a: x "+c[1]) {
				require.Contains(t, message, "note:")
			}
		})
	}
	wider := compare(t, `a: -> {x custom("a.O[int8]", "int8")}`, `a: -> {x custom("a.O[int]", "int")}`)
	require.Len(t, wider, 2, "of what is kept, and of those who wait")
	for _, message := range wider {
		require.Contains(t, message, "note:")
	}
	present := task(t, "a: x text(net.IP)=")
	present.Params[0].Type.NilIs = true
	require.Empty(t, compat.Compare("v1", []*compat.Task{task(t, "a: x *text(net.IP)")}, []*compat.Task{present}, nil))
}

func TestResultsThatNobodyKeeps(t *testing.T) {
	for name, c := range map[string][2]string{"gone": {"a: -> int", "a:"}, "retyped": {"a: -> int", "a: -> string"}, "field": {"a: -> {x int}", "a: -> {x int?}"}} {
		t.Run(name, func(t *testing.T) {
			old := task(t, c[0])
			old.Keeps = false
			require.Empty(t, compat.Compare("v1", []*compat.Task{old}, []*compat.Task{task(t, c[1])}, nil))
		})
	}
}

// TestTasksOfOneNameInTwoPrograms has a module with two programs that are generated apart.
func TestTasksOfOneNameInTwoPrograms(t *testing.T) {
	in := func(dir, text string) *compat.Task {
		made := task(t, text)
		made.Dir = dir
		return made
	}
	old := []*compat.Task{in("a", "job: x int"), in("b", "job: y string")}
	require.Empty(t, compat.Compare("v1", old, []*compat.Task{in("a", "job: x int"), in("b", "job: y string")}, nil))
	changes := compat.Compare("v1", old, []*compat.Task{in("b", "job: y string")}, nil)
	require.Len(t, changes, 1, "the program of a has no task left")
	require.Same(t, old[0], changes[0].Old)
	require.Nil(t, changes[0].New)
	require.Empty(t, compat.Compare("v1", old[:1], []*compat.Task{in("c", "job: x int")}, nil), "the package was moved")
}

func TestQueuesThatAreLeft(t *testing.T) {
	on := func(text, queue string, from ...string) *compat.Task {
		made := task(t, text)
		made.Queue, made.From = queue, from
		return made
	}
	compare := func(old, present []*compat.Task, beside ...*compat.Task) (messages []string) {
		for _, c := range compat.Compare("v1", old, present, beside) {
			if c.Note {
				c.Message = "note: " + c.Message
			}
			messages = append(messages, c.Message)
		}
		return messages
	}
	type tasks = []*compat.Task
	mail := tasks{on("a:", "mail", "post"), on("b:", "mail"), on("c:", "default")}
	require.Equal(t, []string{
		"task a (and b): no task takes from queue mail any more: runs that v1 queued there, and the ticks of schedules made at run time there, would be left to nobody; write //task:queue bulk from=mail until it is empty, or name the queue in the consumers' --queues",
		"note: task a: no task takes from queue post any more: runs that versions before v1 queued there, and the ticks of schedules made at run time there, would be left to nobody; write //task:queue bulk from=post until it is empty, or name the queue in the consumers' --queues",
	}, compare(mail, tasks{on("a:", "bulk"), on("b:", "default"), on("c:", "default")}))
	require.Empty(t, compare(mail, tasks{on("a:", "bulk", "mail", "post"), on("b:", "default"), on("c:", "default")}))
	require.Empty(t, compare(mail, tasks{on("a:", "bulk", "post"), on("b:", "mail"), on("c:", "default")}))
	require.Empty(t, compare(mail, tasks{on("a:", "bulk"), on("b:", "default"), on("c:", "default")}, on("d:", "mail"), on("e:", "post")))
	require.Len(t, compare(mail[2:], tasks{on("d, c:", "mail")}), 1, "renamed, and in another queue")
}

func TestKeysOfPolicies(t *testing.T) {
	const (
		out   = ": until they have ended, a run that v1 queued does not keep an equal one of this version out; "
		apart = ": until they have ended, runs that v1 queued are counted apart, and more than the limit may run at once; "
		end   = "let those end first if that matters"
		first = "it goes by the first name, which was a"
	)
	by := func(paths ...string) *compat.Policy { return &compat.Policy{By: paths} }
	for name, c := range map[string]struct {
		old, present       string
		oldKey, presentKey *compat.Policy
		unique, limit      string
	}{
		"equal":         {"a: x int, y string", "a: x int64, y *string", by("x"), by("x"), "", ""},
		"by":            {"a: x int, y int", "a: x int, y int", by("x"), by("y"), "by=y was by=x" + out + "keep by=x", "by=y was by=x" + apart + "keep by=x"},
		"added":         {"a: x int", "a: x int, y int=", by(), by(), "it has all parameters, and y is new" + out + "add by=x to keep the key", ""},
		"added beside":  {"a: x int", "a: x int, y int=", by("x"), by("x"), "", ""},
		"text":          {"a: x string", "a: x bytes", by("x"), by("x"), "", ""},
		"number":        {"a: x int32", "a: x float64", by("x"), by("x"), "", ""},
		"field order":   {"a: x {y int, z string}", "a: x {z string, y int}", by("x"), by("x"), "", ""},
		"omitted":       {"a: x {y int}", "a: x {y int?}", by("x"), by("x"), "x was {y int} and is {y int?}" + out + end, "x was {y int} and is {y int?}" + apart + end},
		"field retyped": {"a: x {y float32}", "a: x *{y float64}", by("x.y"), by("x.y"), "x.y was float32 and is float64" + out + end, "x.y was float32 and is float64" + apart + end},
		"renamed":       {"a: x int", "b, a: x int", by("x"), by("x"), "", ""},
		"renamed again": {"b, a: x int", "c, a, b: x int", by("x"), by("x"), "", ""},
		"out of order":  {"b, a: x int", "c, b, a: x int", by("x"), by("x"), first + out + "move //task:alias a before the others", first + apart + "move //task:alias a before the others"},
		"parameter":     {"a: x int", "a: y|x int", by("x"), by("y"), "", ""},
		"by gone":       {"a: x int, y int", "a: x int, y int", by("x"), by(), "by=x is gone" + out + "keep by=x", "by=x is gone" + apart + "keep by=x"},
		"order":         {"a: x int, y int", "a: y int, x int", by(), by(), "it has all parameters in their order, which was x,y" + out + "keep their order", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for policy, want := range map[string]string{"unique": c.unique, "concurrency": c.limit} {
				old, present := task(t, c.old), task(t, c.present)
				if policy == "unique" {
					old.Unique, present.Unique = c.oldKey, c.presentKey
				} else {
					old.Concurrency, present.Concurrency = c.oldKey, c.presentKey
				}
				changes := compat.Compare("v1", []*compat.Task{old}, []*compat.Task{present}, nil)
				if want == "" {
					require.Empty(t, changes, policy)
					continue
				}
				require.Len(t, changes, 1, policy)
				require.True(t, changes[0].Note)
				require.Equal(t, "task "+present.Name+": the key of //task:"+policy+" is another, since "+want, changes[0].Message)
			}
		})
	}
}
