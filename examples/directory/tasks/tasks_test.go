package tasks_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/examples/directory/tasks"
	"github.com/taskgen/taskgen/examples/directory/tasks/taskstest"
	"github.com/taskgen/taskgen/runtime/taskapp"
	"github.com/taskgen/taskgen/tasktest"
)

var directory = &tasks.Directory{}

// Children of this test binary open it as those of the application do.
var _ = tasktest.ServeChildAfter(directory.Open, tasks.Tasks(directory))

func TestTheKitAndItsChildrenOpenWhatTasksNeed(t *testing.T) {
	q := taskstest.New(t, directory, tasktest.Start(directory.Open), tasktest.Children())
	found, err := tasks.QueueDirectoryFind(q.Context(), "ada")
	require.NoError(t, err)
	searched, err := tasks.QueueDirectorySearch(q.Context(), "ada")
	require.NoError(t, err)
	q.Drain(t)
	phone, err := found.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, "555-0100", phone)
	phone, err = searched.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, "555-0100", phone)
}

func TestWithoutStartTheDirectoryIsEmpty(t *testing.T) {
	q := taskstest.New(t, &tasks.Directory{}, tasktest.AllowFailures())
	_, err := tasks.QueueDirectorySearch(q.Context(), "ada")
	require.NoError(t, err)
	q.Drain(t)
	require.Len(t, q.Failures(), 1)
}

// TestExecOpensWhatTasksNeed here for io tasks, and in a child for cpu tasks; list does not.
func TestExecOpensWhatTasksNeed(t *testing.T) {
	for _, command := range []string{"directory-find", "directory-search"} {
		out, started := execute(t, &tasks.Directory{}, "exec", command, "--name", "ada")
		require.Equal(t, "\"555-0100\"\n", out)
		require.True(t, started)
	}
	_, started := execute(t, &tasks.Directory{}, "list")
	require.False(t, started)
}

// execute runs a command of the application, and reports whether Start ran.
func execute(t *testing.T, d *tasks.Directory, args ...string) (out string, started bool) {
	t.Helper()
	app := &taskapp.App{Broker: "memory:", Start: func(ctx context.Context) error {
		started = true
		return errors.Join(ctx.Err(), d.Open(ctx))
	}}
	command := app.Command(tasks.Tasks(d))
	var stdout bytes.Buffer
	command.SetOut(&stdout)
	command.SetArgs(args)
	require.NoError(t, command.ExecuteContext(t.Context()))
	return stdout.String(), started
}
