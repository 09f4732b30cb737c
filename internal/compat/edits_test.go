package compat_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/compat"
)

// TestEdits has edits of one task, and whether runs that the old version queued are safe. A
// letter says so: s for safe, n for a note, b for what breaks. The task has no result unless
// one is given; policies are all of unique.
func TestEdits(t *testing.T) {
	for _, edit := range []struct{ want, old, present string }{
		{"s", "a: x int8", "a: x int64"},
		{"b", "a: x int64", "a: x int8"},
		{"b", "a: x int", "a: x uint"},
		{"s", "a: x uint8", "a: x int16"},
		{"b", "a: x uint8", "a: x int8"},
		{"s", "a: x int32", "a: x float64"},
		{"b", "a: x float64", "a: x int32"},
		{"s", "a: x float32", "a: x float64"},
		{"s", "a: x string", "a: x bytes"},
		{"b", "a: x bytes", "a: x string"},
		{"b", "a: x bool", "a: x int"},
		{"b", "a: x int", "a: x string"},
		{"b", "a: x time", "a: x int64"},
		{"b", "a: x int64", "a: x time"},
		{"s", "a: x int", "a: x *int"},
		{"b", "a: x *int", "a: x int"},
		{"s", "a: x [int8]", "a: x [int]"},
		{"b", "a: x [int]", "a: x [int8]"},
		{"s", "a: x [3]int", "a: x [int]"},
		{"b", "a: x [int]", "a: x [3]int"},
		{"b", "a: x [3]int", "a: x [4]int"},
		{"s", "a: x map[int8]int", "a: x map[int]int"},
		{"b", "a: x map[int]int", "a: x map[string]int"},
		{"b", "a: x map[string]int", "a: x [int]"},
		{"b", "a: x {y int}", "a: x map[string]string"},
		{"s", "a: x {y int, z int}", "a: x {z int, y int}"},
		{"b", "a: x {y int}", "a: x {y int, z int}"},
		{"s", "a: x {y int}", "a: x {y int, z int?}"},
		{"s", "a: x {y int}", "a: x {y int, z *int}"},
		{"b", "a: x {y int, z int}", "a: x {y int}"},
		{"b", "a: x {y int?}", "a: x {y int}"},
		{"s", "a: x int, y int", "a: y int, x int"},
		{"b", "a: x int, y int", "a: x int"},
		{"b", "a: x int", "a: x int, y int"},
		{"s", "a: x int", "a: x int, y int="},
		{"s", "a: x int", "a: y|x int"},
		{"b", "a: x int", "a: y int"},
		{"s", "a: x int", "b, a: x int"},
		{"b", "a: x int", "b: x int"},
		{"n", "b, a: x int", "b: x int"},
		{"s", "a: -> int", "a: -> int"},
		{"b", "a: -> string", "a: -> int"},
		{"s", "a:", "a: x int="},
		{"b", "a:", "a: x int"},
		{"b", "a: x int", "a:"},
	} {
		t.Run(edit.old+" to "+edit.present, func(t *testing.T) {
			got := "s"
			messages := compare(t, edit.old, edit.present)
			for _, m := range messages {
				if !strings.HasPrefix(m, "note: ") {
					got = "b"
				} else if got == "s" {
					got = "n"
				}
			}
			require.Equal(t, edit.want, got, messages)
		})
	}
}

// TestEditsOfPolicies has edits of the parameters of a unique task, and whether equal values of
// both versions have one key.
func TestEditsOfPolicies(t *testing.T) {
	for _, edit := range []struct {
		old, present string
		by           []string // of both; nil: all parameters
		same         bool
	}{
		{"a: x int8", "a: x uint64", nil, true},
		{"a: x int", "a: x *int", nil, true},
		{"a: x int", "a: x float64", nil, true},
		{"a: x float32", "a: x float64", nil, false},
		{"a: x string", "a: x bytes", nil, true},
		{"a: x [3]string", "a: x [string]", nil, true},
		{"a: x map[int8]bytes", "a: x map[int]bytes", nil, true},
		{"a: x {y int, z time}", "a: x {z time, y int64}", nil, true},
		{"a: x {y int}", "a: x {y int, z *int}", nil, false},
		{"a: x {y int, z int}", "a: x {y int}", nil, false},
		{"a: x {y int, z int}", "a: x {y int}", []string{"x.y"}, true},
		{"a: x int", "b, a: y|x int", nil, true},
		{"b, a: x int", "c, a, b: x int", nil, true},
		{"b, a: x int", "c, b, a: x int", nil, false},
		{"a: x int, y int", "a: y int, x int", nil, false},
		{"a: x int, y int", "a: y int, x int", []string{"x"}, true},
		{"a: x int", "a: x int, y int=", nil, false},
	} {
		t.Run(edit.old+" to "+edit.present, func(t *testing.T) {
			old, present := task(t, edit.old), task(t, edit.present)
			old.Unique, present.Unique = &compat.Policy{By: edit.by}, &compat.Policy{By: edit.by}
			of := 0
			for _, c := range compat.Compare("v1", []*compat.Task{old}, []*compat.Task{present}, nil) {
				if strings.Contains(c.Message, "the key of //task:unique") {
					require.True(t, c.Note)
					of++
				}
			}
			require.Equal(t, edit.same, of == 0)
		})
	}
}
