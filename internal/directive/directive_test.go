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

// optionsOf parses the lines of one doc comment, which must hold no problem.
func optionsOf(t *testing.T, lines ...string) directive.Options {
	t.Helper()
	var found []*directive.Directive
	for _, line := range lines {
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: line})
		require.Nil(t, problem)
		require.NotNil(t, d, line)
		found = append(found, d)
	}
	options, problems := directive.OptionsOf(token.NewFileSet(), found)
	require.Empty(t, problems)
	return options
}

func TestOptionsOfADocComment(t *testing.T) {
	hour := time.Hour
	options := optionsOf(t,
		"//task:cpu",
		"//task:name heavy-calculation.v2",
		"//task:alias old",
		"//task:alias older",
		"//task:queue `critical` from=mail,slow from=default",
		"//task:priority\thigh",
		"//task:every 1h30m start jitter=2m",
		"//task:missed all max=3",
		"//task:overlap skip",
		"//task:retry 5 factor=1.5 backoff=1s..10m",
		"//task:timeout 250ms",
		"//task:expire 1h",
		"//task:result 1h",
		"//task:unique 10m by=a,b.C",
		"//task:concurrency 4",
		"//task:rate 100/1m by=b",
		"//task:fair a",
		"//task:memory 3GiB",
		"//task:env A=b=c",
		"//task:env `B= d `",
		"//task:secret b",
		"//task:default a  []string{`x`, \"y z\"} ",
		"//task:rename a from=was,once",
		"//task:tags a b  c",
	)
	options.NamePos, options.SchedulePos = 0, 0
	word := func(text string, column int) directive.Word {
		return directive.Word{Text: text, Pos: token.Pos(column)}
	}
	require.Equal(t, directive.Options{
		Kind: "cpu", Name: "heavy-calculation.v2", Queue: "critical", From: []string{"mail", "slow", "default"}, Priority: "high",
		Aliases: []directive.Word{word("old", 14), word("older", 14)},
		Every:   90 * time.Minute, Start: true, Jitter: 2 * time.Minute, Missed: "all", MissedMax: 3, SkipOverlap: true,
		Retry:   &directive.Retry{Retries: 5, Min: time.Second, Max: 10 * time.Minute, Factor: 1.5},
		Timeout: 250 * time.Millisecond, Expire: time.Hour, Result: &hour,
		Unique:      &directive.Unique{For: 10 * time.Minute, By: []directive.Word{word("a", 22), word("b.C", 24)}},
		Concurrency: &directive.Concurrency{Max: 4},
		Rate:        &directive.Rate{Max: 100, Per: time.Minute, By: []directive.Word{word("b", 23)}},
		Fair:        new(word("a", 13)),
		Memory:      3 << 30,
		Env:         []string{"A=b=c", "B= d "},
		Secrets:     []directive.Word{word("b", 15)},
		Defaults:    []directive.Default{{Param: word("a", 16), Value: word("[]string{`x`, \"y z\"}", 19)}},
		Renames:     []directive.Rename{{Param: word("a", 15), Old: word("was", 22)}, {Param: word("a", 15), Old: word("once", 26)}},
		Tags:        []string{"a", "b", "c"},
	}, options)
}

func TestCron(t *testing.T) {
	options := optionsOf(t, "//task:io", `//task:cron "0 3 * * *" tz=Europe/Rome jitter=1h`)
	options.SchedulePos = 0
	require.Equal(t, directive.Options{Kind: "io", Cron: "0 3 * * *", Zone: "Europe/Rome", Jitter: time.Hour}, options)
}

func TestNoneAndNoRetries(t *testing.T) {
	var zero time.Duration
	options := optionsOf(t, "//task:io", "//task:retry 0", "//task:result 0")
	require.Equal(t, directive.Options{Kind: "io", Retry: &directive.Retry{}, Result: &zero}, options)
}

func TestProseIsNoDirective(t *testing.T) {
	for _, text := range []string{
		"// Task: describe what this does.",
		"// task: see above",
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

func TestSentencesMayBeProse(t *testing.T) {
	for text, want := range map[string]bool{
		"// task: retry count":                    true,
		"// task: memory is scarce here":          true,
		"// Task: queue of things to do.":         true,
		"// Task: result of the day":              true,
		"/* task: io is slow */":                  true,
		"/*\n * task:io is slow\n */":             true,
		"// tasks: priority goes first":           true,
		"// task: default behaviour is described": true,
		"// task: retry 5":                        false,
		"// task:io":                              false,
		"//task: io":                              false,
		"/* task: io */":                          false,
		"// task: default id \"x\"":               false,
		"//task : retry 5 factor=2":               false,
		"//tasks:io is glued":                     false,
	} {
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: text})
		require.Nil(t, d, text)
		require.NotNil(t, problem, text)
		require.Equal(t, want, problem.Prose, text)
	}
}

func TestMayOccurWhereFindFinds(t *testing.T) {
	for _, text := range []string{"//task:io", "// task:io", "//Task: io", "/* task : io */", "//\tTASK:cpu",
		"///task:io", "// tasks:io", "// taks:io", "//taskgen:io", "//+task:io", "// +task:io", "//@task:io", "//task_io",
		"//go:task:io", "/** task:io */", "/*\ntask:io\n*/", "//task：io"} {
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
		`//task:cron "0 3 * * *" tz=Europe/Rome jitter=5m`, "//task:cron `\u00e9 31 2` tz=x", "//task:missed all max=9", "//task:overlap skip",
		"//task:unique 1h by=a,b.C,,a", "//task:concurrency 4 by=.", "//task:rate 100/1m by=a", "//task:fair a.b",
		"//task:memory 512MiB", "//task:memory 99999999999999999999TiB", `//task:env "A=b c"`, "//task:env A=", "//task:secret p",
		"/*\n * task:io now\n */", "// +task：retry 5", "// task: memory is scarce", "///taskgen : default a b c",
		"//task:default a \t []string{\"x\"}", "//task:default", "//task:rename a b", "//task:rename a from=b,,c", "//task:alias old.name",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if !strings.HasPrefix(text, "//") && !strings.HasPrefix(text, "/*") || strings.HasPrefix(text, "//") && strings.Contains(text, "\n") {
			return // no comment
		}
		d, problem := directive.Find(&ast.Comment{Slash: 1, Text: text})
		within := func(pos token.Pos) {
			require.LessOrEqual(t, int(pos), 1+len(text))
			require.Positive(t, int(pos))
		}
		if problem != nil {
			within(problem.Pos)
		}
		if d == nil {
			return
		}
		kind := &directive.Directive{Name: "io", Pos: 1}
		options, problems := directive.OptionsOf(token.NewFileSet(), []*directive.Directive{kind, d})
		for _, p := range problems {
			within(p.Pos)
		}
		for _, d := range options.Defaults {
			within(d.Value.Pos)
			require.True(t, strings.HasPrefix(text[d.Value.Pos-1:], d.Value.Text), "%q is not where it is said to be", d.Value.Text)
		}
		for _, name := range append(options.Tags, options.Name, options.Queue) {
			require.False(t, strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' }), "%q", name)
		}
		require.GreaterOrEqual(t, options.Every, time.Duration(0))
		require.GreaterOrEqual(t, options.Timeout, time.Duration(0))
		require.GreaterOrEqual(t, options.Memory, int64(0))
		for _, variable := range options.Env {
			require.False(t, strings.ContainsFunc(variable, unicode.IsControl) && !strings.Contains(variable, "\t"), "%q", variable)
		}
	})
}
