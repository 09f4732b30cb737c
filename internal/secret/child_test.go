package secret

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSecretsOfAChildAreBounded has a child's runs have ever new secrets.
func TestSecretsOfAChildAreBounded(t *testing.T) {
	c := &child{found: newValues()}
	const runs = 3 * mostKept
	for i := range runs {
		s := newValues()
		s.unsigned(uint64(1_000_000 + i))
		s.sort()
		c.add(s)
	}
	line := func(i int) string { return fmt.Sprintf("number %d,", 1_000_000+i) }
	for i := runs - mostKept; i < runs; i++ {
		require.Equal(t, "number ***,", c.Hide(line(i), false))
	}
	require.Equal(t, line(0), c.Hide(line(0), false), "forgotten")
	require.Less(t, c.found.size, mostKeptForms)
	require.Nil(t, c.found.older.older)
}
