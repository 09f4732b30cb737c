package taskgen_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmeShowsCompiledCode: what the README tells its reader to type is what
// the example holds, but for the module's path and the line that generates.
func TestReadmeShowsCompiledCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)<!-- from (\\S+) -->\n```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 2)
	for _, block := range blocks {
		path, shown := block[1], block[2]
		example, err := os.ReadFile(path)
		require.NoError(t, err)
		want := strings.ReplaceAll(shown, "example.com/app/", module+"/examples/greeter/")
		want = strings.ReplaceAll(want, "//go:generate go tool taskgen\n\n", "")
		_, got, _ := strings.Cut(string(example), "\npackage ")
		_, want, _ = strings.Cut("\n"+want, "\npackage ")
		require.Equal(t, want, got, "%s and the README differ", path)
	}
}
