package directive_test

import (
	"go/ast"
	"go/token"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/directive"
)

// fold parses the lines of one doc comment, which must hold no problem.
func fold(t *testing.T, lines ...string) directive.Options {
	t.Helper()
	var found []*directive.Directive
	for _, line := range lines {
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: line})
		require.Nil(t, problem)
		require.NotNil(t, d, line)
		found = append(found, d)
	}
	options, problems := directive.Fold(token.NewFileSet(), found)
	require.Empty(t, problems)
	return options
}

func TestFold(t *testing.T) {
	hour := time.Hour
	options := fold(t,
		"//task:cpu",
		"//task:name heavy-calculation.v2",
		"//task:queue `critical`",
		"//task:priority\thigh",
		"//task:every 1h30m start",
		"//task:retry 5 factor=1.5 backoff=1s..10m",
		"//task:timeout 250ms",
		"//task:expire 1h",
		"//task:result 1h",
		"//task:tags a b  c",
	)
	options.NamePos, options.EveryPos = 0, 0
	require.Equal(t, directive.Options{
		Kind: "cpu", Name: "heavy-calculation.v2", Queue: "critical", Priority: "high",
		Every: 90 * time.Minute, Start: true,
		Retry:   &directive.Retry{Retries: 5, Min: time.Second, Max: 10 * time.Minute, Factor: 1.5},
		Timeout: 250 * time.Millisecond, Expire: time.Hour, Result: &hour,
		Tags: []string{"a", "b", "c"},
	}, options)
}

func TestNoneAndNoRetries(t *testing.T) {
	var zero time.Duration
	options := fold(t, "//task:io", "//task:retry 0", "//task:result 0")
	require.Equal(t, directive.Options{Kind: "io", Retry: &directive.Retry{}, Result: &zero}, options)
}

func TestProseIsNoDirective(t *testing.T) {
	for _, text := range []string{
		"// Task: describe what this does.",
		"// task: see above",
		"//tasks:io",
		"// The //task:io directive",
		"//	//task:io",
		"//go:generate go tool taskgen",
		"/* tasks */",
		"//",
	} {
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: text})
		require.Nil(t, d, text)
		require.Nil(t, problem, text)
	}
}

func TestMayOccurWhereFindFinds(t *testing.T) {
	for _, text := range []string{"//task:io", "// task:io", "//Task: io", "/* task : io */", "//\tTASK:cpu"} {
		require.True(t, directive.MayOccur([]byte("package a\n"+text+"\n")), text)
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: text})
		require.True(t, d != nil || problem != nil, text)
	}
	require.False(t, directive.MayOccur([]byte("package a\n\nvar task = 1 // tasks\n")))
}

// FuzzDirective checks that no comment makes the grammar panic, that every
// problem lies within the comment, and that no name or tag gets past the
// grammar that a log line or a source file would not want.
func FuzzDirective(f *testing.F) {
	for _, seed := range []string{
		"//task:io", "//task:retry 5 backoff=1s..1m factor=2", "//task:queue \"a\\nb\"", "//task:tags a b `c`",
		"//task:name \x00", "//task:every 1s jitter=2s start", "// task: io", "/*task:cpu*/", "//task:priority hihg",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.HasPrefix(text, "//") && !strings.HasPrefix(text, "/*") || strings.HasPrefix(text, "//") && strings.Contains(text, "\n") {
			return // no comment
		}
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: text})
		if problem != nil {
			require.LessOrEqual(t, int(problem.Pos), 1+len(text))
		}
		if d == nil {
			return
		}
		kind := &directive.Directive{Name: "io", Pos: 1}
		options, problems := directive.Fold(token.NewFileSet(), []*directive.Directive{kind, d})
		for _, p := range problems {
			require.LessOrEqual(t, int(p.Pos), 1+len(text))
		}
		for _, name := range append(options.Tags, options.Name, options.Queue) {
			require.False(t, strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }), "%q", name)
		}
		require.GreaterOrEqual(t, options.Every, time.Duration(0))
		require.GreaterOrEqual(t, options.Timeout, time.Duration(0))
	})
}
