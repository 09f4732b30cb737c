//go:build !windows

package taskapp_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// filled executes a command of the filled application. It returns what that printed,
// and noted.
func filled(t *testing.T, env []string, args ...string) (a answer, notes string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "notes")
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), appEnv+"=filled", notesEnv+"="+file), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError))
	}
	b, err := os.ReadFile(file)
	require.True(t, err == nil || os.IsNotExist(err), err)
	return answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}, string(b)
}

func TestFieldsOfAnAppAreUsed(t *testing.T) {
	a, notes := filled(t, nil, "exec", "descend")
	require.Zero(t, a.code, a.stderr)
	require.Equal(t, "open noted:default\nstart in parent\nrun descend\nstart in child\nrun descend in child, with a header from parent\nqueue recorder_record\nstop <nil>\n", notes)
	a, notes = filled(t, nil, "exec", "square", "--n", "3")
	require.Equal(t, "9\n", a.stdout, a.stderr)
	require.Equal(t, "open noted:default\nstart in parent\nrun square\nstart in child\nrun square in child, with a header from parent\nstop <nil>\n", notes)
	a, notes = filled(t, nil, "queue", "square", "--n", "3")
	require.Zero(t, a.code, a.stderr)
	require.Equal(t, "open noted:default\nqueue square\n", notes, "Start is not for queue")
}

// TestStopIsBehindWhatExecutes, and its error changes no result.
func TestStopIsBehindWhatExecutes(t *testing.T) {
	a, notes := filled(t, []string{serveOneEnv + "=1"}, "serve", "--consume")
	require.Zero(t, a.code, a.stderr)
	require.True(t, strings.HasSuffix(notes, "in child, with a header from parent\nstop <nil>\n"), notes)
	a, notes = filled(t, []string{failEnv + "=stop"}, "exec", "square", "--n", "3")
	require.Zero(t, a.code)
	require.Equal(t, "9\n", a.stdout)
	require.Contains(t, a.stderr, `msg="the application's Stop failed" by=filled error="no\ndatabase"`)
	require.Contains(t, notes, "stop")
	a, _ = filled(t, []string{serveOneEnv + "=1"}, "serve", "--consume", "--json")
	require.Contains(t, a.stderr, `"msg":"stopped","by":"filled"}`)
	_, notes = filled(t, []string{failEnv + "=parent"}, "serve")
	require.NotContains(t, notes, "stop", "Start failed")
}

func TestStartIsForWhatExecutes(t *testing.T) {
	for _, args := range [][]string{{"list"}, {"status"}, {"--help"}, {"exec", "echo", "--help"}, {"serve", "--help"}, {"completion", "bash"}, {"__complete", "run", ""}} {
		_, notes := filled(t, nil, args...)
		require.NotContains(t, notes, "start", args)
	}
	a, _ := filled(t, []string{failEnv + "=parent"}, "exec", "square", "--n", "3")
	require.Equal(t, answer{"", filepath.Base(os.Args[0]) + ": start: no database\n", 1}, a)
	a, _ = filled(t, []string{failEnv + "=parent"}, "serve")
	require.Equal(t, 1, a.code)
	require.Contains(t, a.stderr, ": start: no database\n")
	a, _ = filled(t, []string{failEnv + "=child"}, "exec", "square", "--n", "3")
	require.Equal(t, 1, a.code)
	require.Contains(t, a.stderr, "start: no database", "a child's output is in the error")
}

func TestFlagsAndEnvironmentWinOverFields(t *testing.T) {
	_, notes := filled(t, []string{brokerurl.Env + "=noted:env"}, "exec", "echo", "--text", "x", "--times", "1")
	require.Contains(t, notes, "open noted:env\n")
	_, notes = filled(t, []string{brokerurl.Env + "=noted:env"}, "exec", "echo", "--text", "x", "--times", "1", "--broker", "noted:flag")
	require.Contains(t, notes, "open noted:flag\n")
}

// TestAChildDoesNotGetTheURLOfAnApplicationsOwnBroker whichever variable has it.
func TestAChildDoesNotGetTheURLOfAnApplicationsOwnBroker(t *testing.T) {
	const url, other = "noted://user:canary@db/app", "noted://user:another@db/app"
	for _, test := range []struct {
		variable string
		args     []string
		want     string
	}{
		{url, nil, ""},
		{url + "?pool=1", nil, ""},
		{other, nil, other},
		{url, []string{"--child-env", "*", "--child-env", "TESTAPP_GREETING"}, url},
	} {
		env := []string{brokerurl.Env + "=", "TESTAPP_GREETING=" + test.variable}
		a, notes := filled(t, env, append([]string{"exec", "ungreeted", "--broker", url}, test.args...)...)
		require.Equal(t, answer{stdout: strconv.Quote(test.want) + "\n"}, a)
		require.Contains(t, notes, "open "+url+"\n")
		a, notes = filled(t, append(env, serveOneEnv+"=1"), append([]string{"serve", "--consume", "--broker", url}, test.args...)...)
		require.Zero(t, a.code, a.stderr)
		require.Contains(t, notes, "start in child\n")
		require.Equal(t, test.want != "", strings.Contains(notes, "greeting "+test.variable+"\n"), notes)
	}
}

// TestCommandsHangBelowARootOfOnesOwn with all that they can do.
func TestCommandsHangBelowARootOfOnesOwn(t *testing.T) {
	below := func(args ...string) answer {
		a, _ := filled(t, nil, append([]string{"below"}, args...)...)
		return a
	}
	require.Equal(t, answer{"16\nverbose=true error=<nil>\n", "", 0}, below("jobs", "exec", "square", "--n", "4", "--verbose"))
	require.Equal(t, "16\nverbose=true error=<nil>\n", below("--verbose", "jobs", "exec", "square", "--n", "4").stdout)
	require.Equal(t, "verbose=true error=<nil>\n", lastLine(below("jobs", "list", "--verbose").stdout))
	a := below("jobs", "status", "--broker", "memory:")
	require.Equal(t, 2, a.code)
	require.Contains(t, a.stdout, "error=status: the embedded broker is private to its process; set --broker or $TASKGEN_BROKER")
	require.Empty(t, a.stderr, "no usage beside an error")
	a = below("jobs", "stauts")
	require.Equal(t, 2, a.code)
	require.Contains(t, a.stdout, `error=unknown command "stauts"; did you mean "status"?`)
	require.Contains(t, below("jobs", "--help").stdout, "mine jobs serve ")
	require.Contains(t, below("jobs", "exec", "echo", "--help").stdout, "Usage: mine jobs exec echo [flags]\n")
	require.Contains(t, below("help", "jobs", "runs").stdout, "Example: mine jobs runs --state failed")
	require.Contains(t, below("jobs", "runs", "--help").stdout, "\nFlags of all commands:\n  --verbose  say more\n")
	require.Contains(t, below("__complete", "jobs", "exec", "ech").stdout, "echo\tEcho returns its parameters\n")
}

func lastLine(s string) string {
	lines := strings.SplitAfter(strings.TrimSuffix(s, "\n"), "\n")
	return lines[len(lines)-1] + "\n"
}

func TestTwoTasksOfOneNameStopEachCommand(t *testing.T) {
	var stderr bytes.Buffer
	root := new(taskapp.App).Command(tasks.Tasks(nil), tasks.Tasks(nil))
	root.SetErr(&stderr)
	for _, args := range [][]string{{"list"}, {"exec", "echo"}, {"serve"}, {"nothing"}} {
		root.SetArgs(args)
		root.SilenceErrors = true
		err := root.Execute()
		require.ErrorContains(t, err, "two tasks are named", args)
		require.Equal(t, 1, taskapp.ExitCode(err))
	}
	require.Equal(t, 0, taskapp.ExitCode(nil))
}
