package diff_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/diff"
)

func TestUnified(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"equal":    {"a\n", "a\n", ""},
		"new file": {"", "a\nb\n", "--- old\n+++ new\n@@ -0,0 +1,2 @@\n+a\n+b\n"},
		"gone":     {"a\n", "", "--- old\n+++ new\n@@ -1 +0,0 @@\n-a\n"},
		"one line": {
			"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nfive\n6\n7\n8\n9\n",
			"--- old\n+++ new\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n",
		},
		"two hunks": {
			"a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n",
			"--- old\n+++ new\n@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n",
		},
		"no newline at the end": {
			"a\nb", "a\nb\n",
			"--- old\n+++ new\n@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, string(diff.Unified("old", "new", []byte(c.old), []byte(c.new))))
		})
	}
}

// TestAppliedToTheOldItGivesTheNew checks random texts.
func TestAppliedToTheOldItGivesTheNew(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string {
		var text strings.Builder
		for range random.IntN(40) {
			fmt.Fprintln(&text, "line", random.IntN(6))
		}
		return text.String()
	}
	for range 500 {
		a, b := text(), text()
		d := string(diff.Unified("f", "f", []byte(a), []byte(b)))
		require.Equal(t, b, apply(t, a, d), "%q\n%s", a, d)
	}
}

// apply does what the program patch would do.
func apply(t *testing.T, old, diff string) string {
	lines := strings.SplitAfter(old, "\n")
	var out strings.Builder
	at := 0
	for i, line := range strings.SplitAfter(diff, "\n") {
		if i < 2 || line == "" {
			continue
		}
		switch line[0] {
		case '@':
			start, count := 0, 1
			if n, _ := fmt.Sscanf(line, "@@ -%d,%d", &start, &count); n < 2 {
				_, err := fmt.Sscanf(line, "@@ -%d", &start)
				require.NoError(t, err)
			}
			if count > 0 {
				start--
			}
			out.WriteString(strings.Join(lines[at:start], ""))
			at = start
		case '+':
			out.WriteString(line[1:])
		case '-', ' ':
			require.Equal(t, lines[at], line[1:])
			if line[0] == ' ' {
				out.WriteString(line[1:])
			}
			at++
		}
	}
	return out.String() + strings.Join(lines[at:], "")
}

// TestLargeTextsEndSoon: beyond the bound everything in between is replaced.
func TestLargeTextsEndSoon(t *testing.T) {
	var a, b strings.Builder
	for i := range 5000 {
		fmt.Fprintln(&a, "a", i)
		fmt.Fprintln(&b, "b", i)
	}
	d := string(diff.Unified("old", "new", []byte("same\n"+a.String()), []byte("same\n"+b.String())))
	require.True(t, strings.HasPrefix(d, "--- old\n+++ new\n@@ -1,5001 +1,5001 @@\n same\n-a 0\n"))
	require.Equal(t, 5000, strings.Count(d, "\n+b"))
}
