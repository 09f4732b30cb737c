package text_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/text"
)

func TestCount(t *testing.T) {
	require.Equal(t, "0 runs", text.Count(0, "run"))
	require.Equal(t, "1 run", text.Count(1, "run"))
	require.Equal(t, "2 runs", text.Count(2, "run"))
}

func TestListIsBounded(t *testing.T) {
	require.Equal(t, "", text.List(nil, 2))
	require.Equal(t, "a, b", text.List([]string{"a", "b"}, 2))
	require.Equal(t, "a, b and 2 more", text.List([]string{"a", "b", "c", "d"}, 2))
}

func TestTruncateCutsNoCharacter(t *testing.T) {
	require.Equal(t, "äö", text.Truncate("äö", 4))
	require.Equal(t, "ä… (truncated)", text.Truncate("äö", 3))
}
