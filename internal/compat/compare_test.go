package compat_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/compat"
	"github.com/taskgen/taskgen/internal/schema"
)

// task reads "name[, alias…]: params -> result".
func task(t *testing.T, text string) *compat.Task {
	head, body, _ := strings.Cut(text, ":")
	names := strings.Split(head, ", ")
	params, result, hasResult := strings.Cut(body, "->")
	made := &compat.Task{Queue: "default", Name: names[0], Aliases: names[1:], Keeps: hasResult}
	var err error
	made.Params, err = schema.ParseParams(params)
	require.NoError(t, err)
	if hasResult {
		made.Result, err = schema.Parse(result)
		require.NoError(t, err)
	}
	return made
}

func compare(t *testing.T, old, present string) []string {
	read := func(text string) []*compat.Task {
		var tasks []*compat.Task
		for line := range strings.SplitSeq(text, ";") {
			if line != "" {
				tasks = append(tasks, task(t, strings.TrimSpace(line)))
			}
		}
		return tasks
	}
	var messages []string
	for _, c := range compat.Compare("v1", read(old), read(present), nil) {
		if c.Note {
			c.Message = "note: " + c.Message
		}
		messages = append(messages, c.Message)
	}
	return messages
}

func TestSafeChanges(t *testing.T) {
	for name, c := range map[string][2]string{
		"nothing":                      {"a: x int, y string -> string", "a: x int, y string -> string"},
		"a new task":                   {"a:", "a:; b: x int"},
		"renamed with an alias":        {"a: x int", "b, a: x int"},
		"reordered":                    {"a: x int, y string", "a: y string, x int"},
		"added with a default":         {"a: x int", "a: x int, y string="},
		"added as a pointer":           {"a: x int", "a: x int, y *string"},
		"added as omitempty":           {"a: x {a int}", "a: x {a int, b int?}"},
		"renamed":                      {"a: old int", "a: new|old int"},
		"to a pointer":                 {"a: x int, y [string]", "a: x *int, y *[string]"},
		"wider integers":               {"a: x int8, y uint8, z uint32, w int32", "a: x int16, y int16, z int64, w int"},
		"int and int64":                {"a: x int, y int64, z uint, w uint64", "a: x int64, y int, z uint64, w uint"},
		"durations are integers":       {"a: x duration, y int64, z int32", "a: x int64, y duration, z duration"},
		"integers in floats":           {"a: x int8, y uint16, z int32, w uint32, v float32", "a: x float32, y float32, z float64, w float64, v float64"},
		"strings and more in bytes":    {"a: x string, y bytes(4), z text(a.T), w binary(a.B)", "a: x bytes, y bytes, z bytes, w bytes"},
		"arrays in slices":             {"a: x [3]int8", "a: x [int16]"},
		"keys of maps":                 {"a: x map[[2]int8]int, y map[bool]int, z map[text(a/b.T)]int", "a: x map[[2]int]int, y map[bool]int, z map[text(a/b.T)]int"},
		"inside of collections":        {"a: x [int8], y map[int8][2]uint8, z *uint8", "a: x [int64], y map[int32][2]int, z *uint16"},
		"recursive types":              {"a: x @N={v int8, n *@N}", "a: x @M={v int16, n *@M}"},
		"no result where none is kept": {"a:", "a: -> int"},
	} {
		t.Run(name, func(t *testing.T) { require.Empty(t, compare(t, c[0], c[1])) })
	}
}

func TestBreakingChanges(t *testing.T) {
	const (
		unread = "runs queued by v1 could not be read; "
		beside = "keep the type, or add a parameter of another name, with //task:default, next to x"
		other  = "keep the type, or add what is new under another name"
	)
	for name, c := range map[string]struct{ old, present, want string }{
		"gone": {"a: x int", "b: y int",
			"task a of v1 is gone: nothing would execute its queued runs; keep it, or add //task:alias a to the task that replaces it"},
		"renamed": {"a: x int", "b: x int",
			"task a of v1 is gone: nothing would execute its queued runs; if b is its new name, add //task:alias a there"},
		"added": {"a:", "a: x int",
			`task a: parameter "x" is new and required: runs queued by v1 lack it; add //task:default x with a value, or make it a pointer`},
		"added to a struct": {"a: x [{}]", "a: x [{y int}]",
			"task a: field x[].y is new and required: runs queued by v1 lack it; add //task:default x[].y with a value, or make it a pointer"},
		"required now": {"a: x {y int?}", "a: x {y int}",
			"task a: field x.y is required now: runs queued by v1 may lack it; add //task:default x.y with a value, or make it a pointer"},
		"removed": {"a: x int", "a:",
			`task a: parameter "x" is gone: its values in runs queued by v1 would be dropped; keep it, unused, until no such run is left`},
		"removed from a struct": {"a: x *{y int}", "a: x *{}",
			"task a: field x.y is gone: its values in runs queued by v1 would be dropped; keep it, unused, until no such run is left"},
		"renamed parameter": {"a: x int", "a: y int=",
			`task a: parameter "x" is gone: its values in runs queued by v1 would be dropped; if its new name is y, add //task:rename y from=x`},
		"narrower":        {"a: x int64", "a: x int32", `task a: parameter "x" was int64 and is int32: ` + unread + beside},
		"no sign":         {"a: x int8", "a: x uint64", `task a: parameter "x" was int8 and is uint64: ` + unread + beside},
		"too large":       {"a: x uint64", "a: x int64", `task a: parameter "x" was uint64 and is int64: ` + unread + beside},
		"inexact":         {"a: x int", "a: x float64", `task a: parameter "x" was int and is float64: ` + unread + beside},
		"float":           {"a: x float64", "a: x float32", `task a: parameter "x" was float64 and is float32: ` + unread + beside},
		"from bytes":      {"a: x bytes", "a: x string", `task a: parameter "x" was bytes and is string: ` + unread + beside},
		"length":          {"a: x bytes(4)", "a: x bytes(5)", `task a: parameter "x" was bytes(4) and is bytes(5): ` + unread + beside},
		"slice to array":  {"a: x [int]", "a: x [3]int", `task a: parameter "x" was [int] and is [3]int: ` + unread + beside},
		"one to many":     {"a: x int", "a: x [int]", `task a: parameter "x" was int and is [int]: ` + unread + beside},
		"element":         {"a: x [int]", "a: x [string]", `task a: parameter "x" was [int] and is [string]: ` + unread + beside},
		"array key":       {"a: x map[[2]int]int", "a: x map[[3]int]int", `task a: parameter "x" was map[[2]int]int and is map[[3]int]int: ` + unread + beside},
		"bool key":        {"a: x map[bool]int", "a: x map[string]int", `task a: parameter "x" was map[bool]int and is map[string]int: ` + unread + beside},
		"key":             {"a: x map[string]int", "a: x map[int]int", `task a: parameter "x" was map[string]int and is map[int]int: ` + unread + beside},
		"to a struct":     {"a: x int", "a: x {y int}", `task a: parameter "x" was int and is {y int}: ` + unread + beside},
		"marshaller":      {"a: x text(a.T)", "a: x text(a.U)", `task a: parameter "x" was text(a.T) and is text(a.U): ` + unread + beside},
		"time":            {"a: x time", "a: x int64", `task a: parameter "x" was time and is int64: ` + unread + beside},
		"from a pointer":  {"a: x *int", "a: x int=", `task a: parameter "x" was *int and is int: ` + unread + "keep the pointer: it may be nil there"},
		"within a struct": {"a: x [{y int}]", "a: x [{y bool}]", "task a: field x[].y was int and is bool: " + unread + other},
		"recursive": {"a: x @N={v int, n *@N}", "a: x @N={v string, n *@N}",
			"task a: field x.v was int and is string: " + unread + other},
		"result type": {"a: -> int", "a: -> string",
			"task a: the result was int and is string: results kept by v1 could not be read; " + other},
		"result field": {"a: -> {x int}", "a: -> {x int, y int}",
			`task a: result field y is new and required: results kept by v1 lack it; make it a pointer, or give it the tag option omitempty`},
		"result field gone": {"a: -> {x int, y int}", "a: -> {x int}",
			`task a: result field y is gone: callers of v1 that wait for the result would miss it; keep it until none are left`},
		"result gone": {"a: -> int", "a:",
			"task a: the result, int, is gone: callers of v1 that wait for one would find none; keep it until none are left"},
		"an alias that takes another's place": {"a: x int", "b, a: x string",
			`task b: parameter "x" was int and is string: ` + unread + beside},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, []string{c.want}, compare(t, c.old, c.present)) })
	}
}

func TestTicksCarryNoParameters(t *testing.T) {
	old, present := task(t, "a: x int="), task(t, "a: x int")
	changes := compat.Compare("v1", []*compat.Task{old}, []*compat.Task{present}, nil)
	require.Len(t, changes, 1)
	require.True(t, changes[0].Note)
	old.Ticks = true
	changes = compat.Compare("v1", []*compat.Task{old}, []*compat.Task{present}, nil)
	require.Len(t, changes, 1)
	require.Equal(t, `task a: parameter "x" is required now: runs queued by v1 may lack it; add //task:default x with a value, or make it a pointer`, changes[0].Message)
}

func TestNewResultOfRecordsThatAreKept(t *testing.T) {
	old, present := task(t, "a:"), task(t, "a: -> int")
	old.Keeps = true
	changes := compat.Compare("v1", []*compat.Task{old}, []*compat.Task{present}, nil)
	require.Len(t, changes, 1)
	require.Equal(t, "task a: the result is new: records kept by v1 hold none; wait until they have expired, or make it a task of another name", changes[0].Message)
}
