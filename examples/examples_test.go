// Package examples_test runs the examples that have no tests of their own.
package examples_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExamples(t *testing.T) {
	examples := map[string][]string{
		"chain":      {"one line: 8 words\nthree lines: 14 words\npoems: 9 words\n"},
		"deploys":    {"a mail to Ada, in en\na mail to Grace, in it\n"},
		"limits":     {" ada 0\n", " bob 2\n", " eve 2\n", " ada 19\n"},
		"middleware": {"hello Ada, trace 4bf92f35\nhello you, trace 4bf92f35\n"},
		"progress":   {"running: ", "cancelled: true\n"},
		"queues":     {"alarm: the shop is on fire\ninvoice 1\ninvoice 2\ninvoice 3\nnewsletter 1\n"},
		"reports":    {"refused: ", "report-ada runs send_report @every 1s\nsent to ada\nsent to ada\n"},
		"retries":    {"attempt 1 retried: it is busy\n", "attempt 2 retried: it is broken\n", "attempt 3 succeeded\n", "closed is a dead letter: it says no\n"},
		"saga":       {"booked: seat 7 to Rome, room 12\n", " of task book_trip: failed after 1 attempt: ", "there is no hotel; run cancel-Nowhere undoes it\n", "cancelled the trip to Nowhere\n"},
		"unique":     {"refused: true - the same run: true\n", "in its way: 1\nrebuilding toys because of a new price\nrebuilding toys because of a late price\n"},
	}
	bin := t.TempDir()
	build := []string{"build", "-ldflags=-s -w", "-o", bin} // all by one command
	for name := range examples {
		build = append(build, "./"+name)
	}
	out, err := exec.CommandContext(t.Context(), "go", build...).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for name, want := range examples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name)).CombinedOutput()
			require.NoError(t, err, "%s", out)
			for _, part := range want {
				require.Contains(t, string(out), part)
			}
		})
	}
}

// TestCommandsOfTasksHangBelowAnOwnRoot, also in the child process of a CPU-bound task.
func TestCommandsOfTasksHangBelowAnOwnRoot(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "shop")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./ownroot").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"price", "book"}, 0, "12\n"},
		{[]string{"tasks", "exec", "quote", "--item", "book", "--copies", "3"}, 0, "36\n"},
		{[]string{"tasks", "exec", "quote", "--item", "car", "--copies", "3"}, 1, "Error: task quote failed: no car is sold here\n"},
		{[]string{"tasks", "exec", "quot"}, 2, `did you mean "quote"?`},
	} {
		cmd := exec.CommandContext(t.Context(), bin, c.args...)
		out, err := cmd.CombinedOutput()
		require.Contains(t, string(out), c.want, c.args)
		require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s: %v", c.args, err)
	}
}
