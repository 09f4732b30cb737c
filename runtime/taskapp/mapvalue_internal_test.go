package taskapp

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMapsWithKeysThatAreNoText(t *testing.T) {
	type flag bool
	yes := 1
	for text, want := range map[string]any{
		`{"true": "yes", "false": "no"}`:            map[bool]string{true: "yes", false: "no"},
		`{"true": {"[1,2]": ["a"], "[2,1]": null}}`: map[flag]map[[2]int][]string{true: {{1, 2}: {"a"}, {2, 1}: nil}},
		`[{"true": 1}, null]`:                       []map[bool]*int{{true: &yes}, nil},
		`{"7": {"false": {"a": true}}}`:             map[int]map[bool]map[string]bool{7: {false: {"a": true}}},
		`{"[\"a\",\"b\"]": 1}`:                      map[[2]string]int{{"a", "b"}: 1},
		`null`:                                      map[bool]int(nil),
		`{}`:                                        map[bool]int{},
	} {
		v := reflect.New(reflect.TypeOf(want)).Elem()
		require.NoError(t, setValue(v, text), text)
		require.Equal(t, want, v.Interface(), text)
	}
	for text, want := range map[string]string{
		`{"yes": 1}`:               `as JSON: the key "yes": `,
		`{"null": 1}`:              `as JSON: the key "null": it is null`,
		`{"true": "x"}`:            `as JSON: of the key "true": `,
		`{"true": 1, " true": 2}`:  `stands twice`,
		`[1]`:                      `as JSON: json: cannot unmarshal array`,
		`{"true": 1} {"false": 2}`: `as JSON: there is more after the value`,
	} {
		require.ErrorContains(t, setValue(reflect.New(reflect.TypeFor[map[bool]int]()).Elem(), text), want, text)
	}
}
