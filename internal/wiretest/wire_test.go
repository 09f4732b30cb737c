// Package wiretest has programs in another language, which were written from
// docs/wire.md, work together with this module.
package wiretest_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const prefix = "wire"

func TestMain(m *testing.M) {
	taskrt.ServeChild(tasks.Tasks(nil))
	goleak.VerifyTestMain(m)
}

// node runs a program of testdata/wire with the server's address, and decodes the
// JSON that it prints into out.
func node(ctx context.Context, t *testing.T, out any, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("find node: %v: install Node.js 18 or newer, for example with: apt-get install nodejs", err)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, path, append([]string{"../../testdata/wire/" + program}, args...)...)
	cmd.Stderr = &stderr
	printed, err := cmd.Output()
	require.NoError(t, err, "%s\n%s", printed, &stderr)
	require.NoError(t, json.Unmarshal(printed, out), "%s", printed)
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// start starts a server and opens a broker on it.
func start(ctx context.Context, t *testing.T) (*redistest.Server, broker.Broker) {
	t.Helper()
	server := redistest.Start(t)
	b, err := brokerurl.Open(ctx, server.URL()+"?prefix="+prefix)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	return server, b
}

// recording is the runs of tasks with a receiver, by id.
type recording struct {
	mu    sync.Mutex
	runs  map[string]*taskrt.Run
	notes map[string]string
}

func (r *recording) do(_ context.Context, run *taskrt.Run, note string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.runs[run.ID], r.notes[run.ID] = run, note
	return nil
}

// serve runs a consumer until the test ends.
func serve(t *testing.T, b broker.Broker, r *recording) {
	t.Helper()
	cfg := taskrt.ConsumerConfig{Concurrency: 4, Logger: slog.New(slog.DiscardHandler)}
	consumer, err := taskrt.NewConsumer(b, cfg, tasks.Tasks(&tasks.Recorder{Do: r.do}))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
}

// scripts returns a folder with the scripts as they are sent.
func scripts(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, "go", "run", "../../redis/internal/script/print", dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return dir
}

func TestVectorsInNode(t *testing.T) {
	var n int
	node(within(t, time.Minute), t, &n, "check.mjs")
	require.Positive(t, n)
}

func TestNodeProduces(t *testing.T) {
	ctx := within(t, time.Minute)
	server, b := start(ctx, t)
	r := &recording{runs: map[string]*taskrt.Run{}, notes: map[string]string{}}
	serve(t, b, r)

	var saw struct {
		Plain, Mail string // ids
		Delayed     struct {
			ID, Text      string
			Attempts, PID int
			Parts         []string
		}
		Own     []int // statuses of the calls of the enqueue script
		OwnText string
		Wrong   struct{ ID, State, Kind, Message string }
		Dead    struct{ Kind, ID string }
	}
	node(ctx, t, &saw, "produce.mjs", server.Addr(), prefix, scripts(ctx, t))

	require.Equal(t, "delayed", saw.Delayed.Text)
	require.Equal(t, []string{"delayed", "delayed", "delayed"}, saw.Delayed.Parts)
	require.Equal(t, os.Getpid(), saw.Delayed.PID)
	require.Equal(t, 1, saw.Delayed.Attempts)
	require.Equal(t, []int{0, 1, 0}, saw.Own)
	require.Equal(t, "own", saw.OwnText)
	require.Equal(t, "f", saw.Wrong.State)
	require.Equal(t, "schema", saw.Wrong.Kind)
	require.Contains(t, saw.Wrong.Message, `parameter "times" is missing`)
	require.Equal(t, "schema", saw.Dead.Kind)
	require.Equal(t, saw.Wrong.ID, saw.Dead.ID)

	// Outcomes of later runs that Node saw do not prove anything about these two.
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.runs[saw.Plain] != nil && r.runs[saw.Mail] != nil
	}, 10*time.Second, 5*time.Millisecond)
	r.mu.Lock()
	defer r.mu.Unlock()
	plain, mail := r.runs[saw.Plain], r.runs[saw.Mail]
	require.Equal(t, "grüße from node ✓", r.notes[saw.Plain])
	require.Equal(t, map[string]string{"trace-id": "4711", "größe": "Ω"}, plain.Headers)
	require.Equal(t, "recorder_record", plain.Task)
	require.Equal(t, "parent", plain.ParentID)
	require.Equal(t, "root", plain.RootID)
	require.Equal(t, 1, plain.Attempt)
	require.WithinDuration(t, time.Now(), plain.QueuedAt, time.Minute)
	require.Equal(t, "mail", mail.Queue)
	require.Equal(t, strings.Repeat("x", 70_000), r.notes[saw.Mail])
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"default": 0, "mail": 0}, lengths)
}

func TestNodeConsumes(t *testing.T) {
	ctx := within(t, time.Minute)
	server, b := start(ctx, t)
	stubs := taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
	handles, err := tasks.QueueEchoBatch(stubs, []tasks.EchoParams{{Text: "one", Times: 1}, {Text: "two", Times: 2}},
		taskrt.OnQueue("for-node"))
	require.NoError(t, err)
	waited := make(chan error, len(handles)) // since before there is an end to wait for
	answers := make([]tasks.Answer, len(handles))
	for i, h := range handles {
		go func() {
			var err error
			answers[i], err = h.Wait(ctx)
			waited <- err
		}()
	}

	var saw struct {
		PID int
		IDs []string
	}
	node(ctx, t, &saw, "consume.mjs", server.Addr(), prefix, scripts(ctx, t), "for-node")
	for range handles {
		require.NoError(t, <-waited)
	}
	require.Equal(t, []string{handles[0].ID, handles[1].ID}, saw.IDs)
	at := time.UnixMilli(1_700_000_000_123).UTC()
	require.Equal(t, []tasks.Answer{
		{Text: "one by node", Parts: []string{"one"}, At: at, PID: saw.PID},
		{Text: "two by node", Parts: []string{"two", "two"}, At: at, PID: saw.PID},
	}, answers)

	// Both sessions have left nothing in flight, and nothing that does not fit.
	report, err := b.(*redis.Broker).Audit(ctx, "for-node", false)
	require.NoError(t, err)
	require.Equal(t, maintenance.Report{}, report)
}
