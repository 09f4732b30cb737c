package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestMain makes the test binary two things: a child process for CPU-bound tasks, and
// the tests.
func TestMain(m *testing.M) {
	taskrt.ChildConfig{Middleware: []taskrt.Middleware{inChild}}.ServeChild(tasks.Tasks(nil))
	// A process of the race detector that has goroutines sleeps for a second
	// before it exits; those that tests start need not.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		os.Exit(1)
	}
	os.Exit(leakChecked{m}.Run())
}

// inChild does in a child process what a header of the run asks for.
func inChild(next taskrt.Handler) taskrt.Handler {
	return func(ctx context.Context, run *taskrt.Run) error {
		switch run.Headers["in child"] {
		case "refuse":
			return taskrt.Permanent(errors.New("refused in the child"))
		case "skip":
			return nil
		case "trace":
			return taskrt.Permanent(fmt.Errorf("trace %d in the child", run.Trace))
		case "panic":
			panic("panicked in the child")
		}
		return next(ctx, run)
	}
}

// leakChecked fails the tests when goroutines outlive them.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString("goroutines outlive the tests: " + err.Error() + "\n")
		return 1
	}
	return code
}

// journal records the runs that a Recorder saw.
type journal struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	run  taskrt.Run
	note string
	at   time.Time
}

func (j *journal) add(run *taskrt.Run, note string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry{*run, note, time.Now()})
}

func (j *journal) all() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]entry(nil), j.entries...)
}

func (j *journal) notes() []string {
	var notes []string
	for _, e := range j.all() {
		notes = append(notes, e.note)
	}
	return notes
}

// recorder returns a Recorder that writes to the journal and then does what do
// says; nil lets every run succeed.
func (j *journal) recorder(do func(ctx context.Context, run *taskrt.Run, note string) error) *tasks.Recorder {
	return &tasks.Recorder{Do: func(ctx context.Context, run *taskrt.Run, note string) error {
		j.add(run, note)
		if do == nil {
			return nil
		}
		return do(ctx, run, note)
	}}
}

// quiet drops what a consumer logs.
var quiet = slog.New(slog.DiscardHandler)

func newMemory(t *testing.T) *memory.Broker {
	b := memory.New()
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// clientContext returns a context whose stubs queue on b.
func clientContext(ctx context.Context, b broker.Broker) context.Context {
	return taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
}

// consume runs a consumer until the test ends or the returned function is
// called, which returns what Run returned.
func consume(t *testing.T, b broker.Broker, cfg taskrt.ConsumerConfig, sets ...[]taskrt.Task) (stop func() error) {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	c, err := taskrt.NewConsumer(b, cfg, sets...)
	require.NoError(t, err)
	return start(t, c.Run)
}

func schedule(t *testing.T, b broker.Broker, sets ...[]taskrt.Task) (stop func() error) {
	t.Helper()
	s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{Logger: quiet}, sets...)
	require.NoError(t, err)
	return start(t, s.Run)
}

func start(t *testing.T, run func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = run(ctx)
	}()
	stop = func() error {
		cancel()
		<-done
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}
