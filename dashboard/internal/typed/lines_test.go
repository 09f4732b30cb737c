package typed_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/typed"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// kept is a broker that the end of a command does not close.
type kept struct{ *memory.Broker }

func (kept) Close() error { return nil }

// TestTheCommandQueuesTheSameRun gives the lines of forms to the command line of the program.
func TestTheCommandQueuesTheSameRun(t *testing.T) {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	app := &taskapp.App{Brokers: map[string]brokerurl.Opener{"kept": func(context.Context, string) (broker.Broker, error) { return kept{b}, nil }}}
	title := "a title"
	for name, params := range map[string]any{
		"shaped":          shaped(),
		"labelled":        &tasks.LabelledParams{ID: "x", Wait: true, JSON: "-n", Help: "--help", DataIDs: []string{"a", "@b"}, Note: "@none", Times: 4, Title: &title},
		"twins":           &tasks.TwinsParams{DataID: "1", DataId: "2", User_name: "it's", H: -3},
		"recorder_record": &tasks.RecorderRecordParams{Note: "$HOME `id` \u202e\n"},
	} {
		if p, ok := params.(*tasks.ShapedParams); ok {
			p.Blob = []byte("text") // bytes that are not UTF-8 need a file
		}
		task, f := newForm(t, name)
		payload, err := task.EncodeParams(params)
		require.NoError(t, err)
		line := f.Lines("app", payload, typed.Options{Queue: "lines", ID: name, Delay: "1h", Headers: []string{"k=v w"}, Priority: "high"}).Command
		out, err := exec.CommandContext(t.Context(), "sh", "-c", "printf '%s\\0' "+line).Output()
		require.NoError(t, err)
		words := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")
		command := app.Command(tasks.Tasks(nil))
		command.SetArgs(append(words[1:], "--queue.broker=kept:"))
		require.NoError(t, command.ExecuteContext(t.Context()), line)
		runs, err := b.Runs(t.Context(), "lines", broker.StateDelayed, 10)
		require.NoError(t, err)
		found := false
		for _, i := range runs {
			if i.Run.ID != name {
				continue
			}
			found = true
			got, err := task.DecodeParams(i.Run.Payload)
			require.NoError(t, err)
			require.Equal(t, params, got, line)
			require.Equal(t, broker.High, i.Run.Priority)
			require.Equal(t, map[string]string{"k": "v w"}, i.Run.Headers)
			require.WithinDuration(t, time.Now().Add(time.Hour), i.Due, time.Minute)
		}
		require.True(t, found, line)
	}
}
