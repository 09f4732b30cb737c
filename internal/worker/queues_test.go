package worker

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPatternsMatchWholeNames(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"mail", "mail", true}, {"mail", "mail2", false},
		{"*", "", true}, {"*", "mail", true},
		{"mail-*", "mail-", true}, {"mail-*", "mail-eu", true}, {"mail-*", "email-eu", false},
		{"*-eu", "mail-eu", true}, {"*-eu", "mail-eu-1", false},
		{"a*b*c", "abc", true}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "acb", false}, {"a*a", "a", false},
	} {
		require.Equal(t, test.want, matches(test.pattern, test.name), "%s %s", test.pattern, test.name)
	}
}

func TestQueuesFollowTheBroker(t *testing.T) {
	s := newQueueSet(map[string]int{"mail": 2, "mail-*": 1, "mail-eu*": 3}, true)
	require.Equal(t, []string{"mail"}, s.order())
	require.True(t, s.set([]string{"mail", "mail-us", "mail-eu", "other"}))
	require.Equal(t, []string{"mail-eu", "mail", "mail-us"}, s.order(), "the longest pattern gives the weight")
	require.False(t, s.set([]string{"mail-eu", "mail-us"}), "no change")
	require.True(t, s.takes("mail-new"))
	require.False(t, s.takes("new"))
}

// TestWeightsAreShares draws first queues.
func TestWeightsAreShares(t *testing.T) {
	s := newQueueSet(map[string]int{"a": 6, "b": 3}, false)
	first := 0
	const draws = 9000
	for range draws {
		order := s.order()
		require.ElementsMatch(t, []string{"a", "b"}, order)
		first += slices.Index([]string{"b", "a"}, order[0])
	}
	require.InDelta(t, draws*6/9, first, draws/20)
}
