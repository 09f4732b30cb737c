package tasktest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Option changes a [Kit].
type Option func(*Kit)

// Middleware wraps every run, the first outermost, as [taskrt.ConsumerConfig.Middleware] does.
func Middleware(m ...taskrt.Middleware) Option {
	return func(k *Kit) { k.middleware = append(k.middleware, m...) }
}

// AllowFailures has [Kit.Drain] not fail the test if an attempt fails.
func AllowFailures() Option { return func(k *Kit) { k.allowFailures = true } }

// Concurrency has a kit execute at most n io runs at once: with 1 they start in the order in
// which they are taken. Defaults to that of [taskrt.ConsumerConfig].
func Concurrency(n int) Option { return func(k *Kit) { k.concurrency = n } }

// Children has cpu tasks run in child processes, as they do in production. The test binary has
// to declare, in a package variable, what its children serve: see [ServeChild]. It excludes
// testing/synctest, as time does not advance there while a process works.
func Children() Option { return func(k *Kit) { k.children = true } }

// ServeChild serves runs if this process is a child of a test binary, and exits. In any other
// process it returns at once. A test file calls it before main, so that no TestMain is needed:
//
//	var _ = tasktest.ServeChild(tasks.Tasks())
func ServeChild(sets ...[]taskrt.Task) struct{} {
	taskrt.ServeChild(sets...)
	return struct{}{}
}

// ServeChildAfter is as [ServeChild], but calls start before the first run of a child: give it
// the Start of taskapp.App. Its error is that of the run.
func ServeChildAfter(start func(ctx context.Context) error, sets ...[]taskrt.Task) struct{} {
	var once sync.Once
	var err error
	opened := func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			once.Do(func() { err = start(context.WithoutCancel(ctx)) })
			if err != nil {
				return fmt.Errorf("start: %w", err)
			}
			return next(ctx, run)
		}
	}
	taskrt.ChildConfig{Middleware: []taskrt.Middleware{opened}}.ServeChild(sets...)
	return struct{}{}
}

// Start has [New] call a function that opens what tasks need, such as the Start of taskapp.App,
// with the kit's context. An error fails the test.
func Start(start func(ctx context.Context) error) Option {
	return func(k *Kit) { k.start = start }
}

// Kit is an application's tasks in a test. Its methods are called by one goroutine; its
// context may be used by many.
type Kit struct {
	broker *testBroker
	tasks  []taskrt.Task
	client *taskrt.Client
	ctx    context.Context
	bubble bool
	clock  *movedClock // nil if New was called in a bubble

	middleware    []taskrt.Middleware
	allowFailures bool
	allowLeaks    bool
	children      bool
	concurrency   int
	start         func(ctx context.Context) error
	retry         func(run *taskrt.Run, err error) (wait time.Duration, again bool)

	mu       sync.Mutex
	replaced map[string]func(ctx context.Context, params any) (any, error)
	failures []*taskrt.RunError
	notes    []*note
}

// New returns a kit for the tasks. At the end of the test it closes the client and the broker,
// and fails the test if goroutines go on that the test or a task started since New; see
// [AllowLeaks]. It fails the test too if the tasks do not fit together.
func New(t testing.TB, tasks []taskrt.Task, opts ...Option) *Kit {
	t.Helper()
	k := &Kit{bubble: inBubble(), replaced: map[string]func(context.Context, any) (any, error){}}
	for _, opt := range opts {
		opt(k)
	}
	if k.children && k.bubble {
		t.Fatal("tasktest: Children excludes testing/synctest: time does not advance while a child process works")
	}
	merged, err := taskrt.MergeTasks(tasks)
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	for _, task := range merged {
		k.tasks = append(k.tasks, k.prepare(task))
	}
	k.broker = &testBroker{Broker: memory.New(), now: time.Now, queues: map[string]bool{}}
	if !k.bubble {
		k.clock = &movedClock{}
		k.broker.Broker, k.broker.now, k.broker.clock = memory.NewConfig(memory.Config{Now: k.clock.now}), k.clock.now, k.clock
	}
	k.client = taskrt.NewClient(k.broker, taskrt.ClientConfig{})
	k.ctx = taskrt.WithClient(t.Context(), k.client)
	leaks := !k.bubble && !k.allowLeaks
	if leaks {
		k.label()
	}
	t.Cleanup(func() {
		if err := k.client.Close(context.WithoutCancel(k.ctx)); err != nil {
			t.Errorf("tasktest: close the client: %v", err)
		}
		_ = k.broker.Close() // returns nil
		if leaks {
			k.findLeaks(t)
		}
	})
	if k.start != nil {
		if err := k.start(k.ctx); err != nil {
			t.Fatalf("tasktest: start: %v", err)
		}
	}
	return k
}

// Context returns the context of the test with the kit's client: stubs called with it queue to
// the kit's broker.
func (k *Kit) Context() context.Context { return k.ctx }

// Broker returns the kit's broker.
func (k *Kit) Broker() broker.Broker { return k.broker }

// prepare returns a task that calls a function of Returns in place of its own, if there is one.
func (k *Kit) prepare(task taskrt.Task) taskrt.Task {
	if task.Spec().Kind == taskrt.CPU && !k.children {
		task = task.InProcess()
	}
	return task
}

// current returns the tasks with the functions that replace theirs.
func (k *Kit) current() []taskrt.Task {
	tasks := slices.Clone(k.tasks)
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, task := range tasks {
		if fn := k.replaced[task.Name()]; fn != nil {
			tasks[i] = task.InProcess().WithFunc(fn)
		}
	}
	return tasks
}

// Drain runs what is due, and what that queues, until nothing is due. Runs that wait for a
// time, a retry or a limit stay. An attempt that fails fails the test, except with
// [AllowFailures].
func (k *Kit) Drain(t testing.TB) {
	t.Helper()
	if !k.bubble && k.clock.moved() > 0 {
		k.inOwnBubble(t, k.Drain)
		return
	}
	k.drain(t)
	k.report(t)
}

// Failures returns the failed attempts so far.
func (k *Kit) Failures() []*taskrt.RunError {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.failures)
}

func (k *Kit) report(t testing.TB) {
	t.Helper()
	k.tell(t)
	if k.allowFailures {
		return
	}
	k.mu.Lock()
	failures := k.failures
	k.failures = nil
	k.mu.Unlock()
	for _, err := range failures {
		t.Errorf("tasktest: %v", err)
	}
}

// drain runs a consumer until nothing is due.
func (k *Kit) drain(t testing.TB) {
	t.Helper()
	queues := k.queues()
	if _, err := k.broker.Recover(k.ctx, queues); err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	if k.idle(t, queues) {
		return
	}
	weights := make(map[string]int)
	for _, queue := range queues {
		weights[queue] = 1
	}
	consumer, err := taskrt.NewConsumer(k.broker, taskrt.ConsumerConfig{
		Middleware: slices.Concat([]taskrt.Middleware{k.tellUnsupported}, k.middleware),
		Grace:      time.Nanosecond, Lease: lease, Queues: weights, Retry: k.retry, Concurrency: k.concurrency,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), OnEvent: k.onEvent,
	}, k.current())
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(k.ctx))
	ended := make(chan error, 1)
	go func() {
		pprof.SetGoroutineLabels(k.ctx) // also if the test has made another kit since
		ended <- consumer.Run(ctx)
	}()
	k.awaitIdle(t, queues)
	stop()
	if err := <-ended; err != nil {
		t.Errorf("tasktest: %v", err)
	}
}

// lease is that of the kit's consumers.
const lease = 10 * time.Second

// patience is how long Drain waits for a run to end: a minute, and a day of a bubble's clock.
func (k *Kit) patience() time.Duration {
	if k.bubble {
		return 24 * time.Hour
	}
	return time.Minute
}

// awaitIdle waits until no run is due or running. It looks whenever the broker has heard of
// one, and in between: a limit does not say when it has room.
func (k *Kit) awaitIdle(t testing.TB, queues []string) {
	t.Helper()
	changed := make(chan struct{}, 1)
	k.broker.inject(func(b *testBroker) { b.changed = changed })
	between := time.Millisecond
	if k.bubble {
		between = time.Second
	}
	for began := time.Now(); ; {
		if k.bubble {
			synctest.Wait()
		}
		if k.idle(t, queues) {
			return
		}
		if time.Since(began) > k.patience() || k.ctx.Err() != nil {
			t.Errorf("tasktest: runs are still due or running after %v: %s", time.Since(began), k.describe(queues))
			return
		}
		timer := time.NewTimer(between)
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// idle reports whether no run is due or running, or the broker is down.
func (k *Kit) idle(t testing.TB, queues []string) bool {
	t.Helper()
	if k.broker.outage() != nil {
		return true
	}
	busy := int64(0)
	for _, queue := range queues {
		info, err := k.broker.Queue(context.WithoutCancel(k.ctx), queue)
		if err != nil {
			t.Fatalf("tasktest: %v", err)
		}
		if !info.Paused {
			busy += info.Queued - info.Held
		}
		busy += info.Running
	}
	return busy <= k.broker.heldByDead()
}

func (k *Kit) describe(queues []string) string {
	var text strings.Builder
	for _, queue := range queues {
		if info, err := k.broker.Queue(context.WithoutCancel(k.ctx), queue); err == nil {
			fmt.Fprintf(&text, "queue %s: %d queued, %d running; ", queue, info.Queued, info.Running)
		}
	}
	return text.String()
}

func (k *Kit) onEvent(e taskrt.Event) {
	switch e.Kind {
	case taskrt.RunRetried, taskrt.RunFailed:
		k.mu.Lock()
		defer k.mu.Unlock()
		k.failures = append(k.failures, e.Err)
	}
}

// queues returns the queues of the tasks, and those to which runs were queued.
func (k *Kit) queues() []string {
	var queues []string
	for _, task := range k.tasks {
		spec := task.Spec()
		queues = append(queues, spec.Queues()...)
	}
	k.broker.inject(func(b *testBroker) { queues = slices.AppendSeq(queues, maps.Keys(b.queues)) })
	slices.Sort(queues)
	return slices.Compact(queues)
}

// inBubble reports whether the caller is in a bubble of testing/synctest.
func inBubble() (in bool) {
	defer func() { _ = recover() }() // Wait panics outside of a bubble
	synctest.Wait()
	return true
}
