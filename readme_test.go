package taskgen_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shown matches the code in a document and the file that it is from.
var shown = regexp.MustCompile("(?s)<!-- from (\\S+) -->\n```go\n(.*?)```")

// TestReadmeShowsCompiledCode compares the code in the README with the example,
// except for the module's path and the go:generate line.
func TestReadmeShowsCompiledCode(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := shown.FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 2)
	for _, block := range blocks {
		path, text := block[1], block[2]
		example, err := os.ReadFile(path)
		require.NoError(t, err)
		want := strings.ReplaceAll(text, "example.com/app/", module+"/examples/greeter/")
		want = strings.ReplaceAll(want, "//go:generate go tool taskgen\n\n", "")
		_, got, _ := strings.Cut(string(example), "\npackage ")
		_, want, _ = strings.Cut("\n"+want, "\npackage ")
		require.Equal(t, want, got, "%s and the README differ", path)
	}
}

// TestGuideShowsCompiledCode checks that all Go code in the guide, and in the page about
// the command line, is part of an example.
func TestGuideShowsCompiledCode(t *testing.T) {
	for _, path := range []string{"docs/guide.md", "docs/commands.md"} {
		t.Run(path, func(t *testing.T) { testShowsCompiledCode(t, path) })
	}
}

func testShowsCompiledCode(t *testing.T, path string) {
	guide, err := os.ReadFile(path)
	require.NoError(t, err)
	blocks := shown.FindAllStringSubmatch(string(guide), -1)
	require.Len(t, blocks, strings.Count(string(guide), "```go\n"), "each block names its example")
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		path, text := block[1], block[2]
		require.True(t, strings.HasPrefix(path, "examples/"), path)
		example, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Contains(t, string(example), text, "%s and the guide differ", path)
	}
}

// TestLinksOfDocumentsLead: what the documents link to in the repository is there.
func TestLinksOfDocumentsLead(t *testing.T) {
	for _, path := range []string{"README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/commands.md", "docs/operating.md", "docs/testing.md"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		links := regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`).FindAllStringSubmatch(string(text), -1)
		for _, link := range links {
			target := path
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(path), link[1])
			}
			_, err := os.Stat(target)
			require.NoError(t, err, "%s links to it", path)
			if link[2] == "" {
				continue
			}
			linked, err := os.ReadFile(target)
			require.NoError(t, err)
			heading := "## " + strings.ReplaceAll(link[2], "-", " ") + "\n"
			require.Contains(t, strings.ToLower(string(linked)), heading, "%s links to it in %s", path, target)
		}
	}
}

// TestFilesOfDocumentsExist: the files and folders of the repository that documents name
// are there.
func TestFilesOfDocumentsExist(t *testing.T) {
	named := regexp.MustCompile("`((?:bench|broker|cmd|codec|docs|examples|internal|redis|runtime|testdata|tools)(?:/[\\w.-]+)*)`")
	for _, path := range []string{"README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/commands.md", "docs/operating.md", "docs/testing.md"} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(match[1])
			require.NoError(t, err, "%s names it", path)
		}
	}
	contributing, err := os.ReadFile("CONTRIBUTING.md")
	require.NoError(t, err)
	for _, match := range regexp.MustCompile("`([a-z]+\\.lua)`").FindAllStringSubmatch(string(contributing), -1) {
		_, err := os.Stat(filepath.Join("redis/internal/script", match[1]))
		require.NoError(t, err)
	}
}

// TestCodeOfTheTestingChapterIsRun: each line of its code is in the examples, in that order.
func TestCodeOfTheTestingChapterIsRun(t *testing.T) {
	text, err := os.ReadFile("docs/testing.md")
	require.NoError(t, err)
	var example []string
	for _, path := range []string{
		"examples/signup/tasks/tasks.go", "examples/signup/tasks/tasks_test.go",
		"examples/directory/tasks/tasks.go", "examples/directory/main.go", "examples/directory/tasks/tasks_test.go",
	} {
		source, err := os.ReadFile(path)
		require.NoError(t, err)
		for line := range strings.Lines(string(source)) {
			example = append(example, strings.TrimSpace(line))
		}
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		rest := example
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			i := slices.Index(rest, line)
			require.GreaterOrEqual(t, i, 0, "the example lacks this line, or has it elsewhere: %s", line)
			rest = rest[i+1:]
		}
	}
}
