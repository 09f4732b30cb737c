package otel

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestTheSameHeadersFitIntoEachRun has runs with room for some of the headers.
func TestTheSameHeadersFitIntoEachRun(t *testing.T) {
	more := map[string]string{"tracestate": "s", "traceparent": "p", "baggage": "b", "aaa": "a"}
	for range 100 {
		for room, want := range [][]string{{}, {"traceparent"}, {"aaa", "traceparent"}, {"aaa", "baggage", "traceparent"}, {"aaa", "baggage", "traceparent", "tracestate"}} {
			own := make(map[string]string)
			for i := range broker.MaxHeaders - room {
				own[fmt.Sprint("own", i)] = ""
			}
			got := add(maps.Clone(own), more)
			maps.DeleteFunc(got, func(key, _ string) bool { _, is := own[key]; return is })
			require.Equal(t, want, append([]string{}, slices.Sorted(maps.Keys(got))...))
		}
	}
}
