// Package bare is a test binary without a TestMain.
package bare

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestAConsumerOfCPUTasksSaysWhatTestMainLacks(t *testing.T) {
	_, err := taskrt.NewConsumer(memory.New(), taskrt.ConsumerConfig{}, tasks.Tasks(nil))
	require.EqualError(t, err, "make a consumer: its CPU-bound tasks run in children of this test binary, which has not called taskrt.ServeChild: "+
		"add func TestMain(m *testing.M) { taskrt.ServeChild(Tasks()); os.Exit(m.Run()) } with the same tasks")

	io := taskrt.Bind(&taskrt.Definition[taskrt.None, taskrt.None]{Spec: taskrt.Spec{Name: "io", Queue: "default", Kind: taskrt.IO}},
		func(context.Context, *taskrt.None) (taskrt.None, error) { return taskrt.None{}, nil })
	_, err = taskrt.NewConsumer(memory.New(), taskrt.ConsumerConfig{}, []taskrt.Task{io})
	require.NoError(t, err)
}

// ran is the variable with the file in which each process notes that it runs this
// package's tests.
const ran = "BARE_TEST_RAN"

func TestAChildRunsNoTests(t *testing.T) {
	file := os.Getenv(ran)
	first := file == ""
	if first {
		file = filepath.Join(t.TempDir(), "ran")
		t.Setenv(ran, file)
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = fmt.Fprintln(f, os.Getpid())
	require.NoError(t, err)
	require.NoError(t, f.Close())
	if !first {
		return
	}
	pool, err := subprocess.NewPool(subprocess.Config{Processes: 1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	defer func() { require.NoError(t, pool.Close(context.Background())) }()
	_, err = pool.Run(t.Context(), &subprocess.Request{Run: &broker.TaskRun{ID: "1", Task: "any", Queue: "default", Kind: broker.CPU}})
	var start *subprocess.StartError
	require.ErrorAs(t, err, &start)
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(os.Getpid()), string(content), "processes that ran the tests")
}
