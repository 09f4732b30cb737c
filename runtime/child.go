package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/relay"
	"github.com/taskgen/taskgen/internal/secret"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// InChild reports whether this process is a child that a consumer started for
// its CPU-bound tasks.
func InChild() bool { return subprocess.InChild() }

// servesChildren is whether this process has called ServeChild: so would its
// children, which are the same program.
var servesChildren atomic.Bool

// ServeChild makes a child process serve runs and exit; in any other process
// it returns at once. A main that does not use taskapp.Main calls it first, before
// it opens ports, files or connections. A test binary whose tests execute
// CPU-bound tasks calls it first in TestMain: without it [NewConsumer] returns
// an error there.
//
// The runs pass no middleware in the child: see [ChildConfig.ServeChild].
func ServeChild(sets ...[]Task) { ChildConfig{}.ServeChild(sets...) }

// ServeChild is as the function of that name, with the Middleware of the configuration.
func (c ChildConfig) ServeChild(sets ...[]Task) {
	servesChildren.Store(true)
	if !InChild() {
		return
	}
	if err := serveChild(sets, c.Middleware); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// ChildConfig tunes the child processes in which a consumer executes CPU-bound runs. Its
// zero value works. The commands list --json, as held_by, and serve, in its first line,
// report which of the settings hold on this system.
type ChildConfig struct {
	// Fresh gives each run a child process of its own, which ends with the run.
	// Defaults to false: a child stays warm from run to run.
	Fresh bool
	// MaxRuns, MaxAge and MaxSize bound the life of a child: the number of its runs, its
	// age, and its resident size in bytes between two runs, where the system reports
	// it. At a bound the child is replaced once its successor is ready. Default to
	// 100,000 runs, 1 hour and 1 GiB; negative is no bound.
	MaxRuns int
	MaxAge  time.Duration
	MaxSize int64
	// MaxFailures is how many runs of a child may fail in a row before the child is
	// replaced: a run can damage its process for those that follow. Timeouts count.
	// Schema errors, errors of Permanent and RetryAfter, snoozed and cancelled runs do
	// not. The bound doubles with each child that reaches it, until a run succeeds in
	// any child. After a failure a child is used only if no other is idle. Defaults to
	// 5; negative is no bound.
	MaxFailures int
	// Idle is how long a child without a run is kept. Defaults to 5 minutes; negative
	// keeps it as long as the consumer.
	Idle time.Duration
	// Grace is how long a run may go on after its context has ended: it was cancelled,
	// has timed out or lost its lease, or the consumer stops. Then the child's stacks
	// are recorded and the child is killed. Defaults to 500ms.
	Grace time.Duration
	// StartTimeout is how long a child may take until it reaches taskapp.Main or
	// [ServeChild]. Defaults to 10s.
	StartTimeout time.Duration
	// Threads is a child's GOMAXPROCS. Defaults to the consumer's divided by Processes,
	// but at least 2: one for the run, and one for the garbage collector and for
	// reading cancellations.
	Threads int
	// Nice is added to a child's nice value, 0 to 19, so that the consumer renews its
	// lease while all children are busy. Defaults to 5; negative is 0.
	Nice int
	// OOMScore is a child's oom_score_adj on Linux, up to 1000: if the system runs out
	// of memory, it kills a child before the consumer. Defaults to 500; negative leaves
	// it unchanged.
	OOMScore int
	// Env lists the environment variables of children, besides those of a task's own
	// //task:env. An entry is a name, a pattern such as AWS_*, or KEY=value.
	//
	// If the list has a name or a pattern, it is an allow-list. Children get only those
	// of the consumer's variables, and PATH, HOME, USER, LOGNAME, TMPDIR, LANG,
	// LANGUAGE, LC_*, TZ, ZONEINFO, SSL_CERT_FILE, SSL_CERT_DIR, LD_LIBRARY_PATH and
	// those of the Go runtime such as GODEBUG. A KEY=value is added, and overrides.
	// Defaults to all variables of the consumer.
	//
	// A variable that gives access to the broker passes only if Env has its full name,
	// for a child queues through its parent. TASKGEN_BROKER gives access, and so do
	// variables that mention Redis and have the broker's password. If there is no
	// password, those with a Redis URL of the broker's server and database do. For any other
	// broker see BrokerURL.
	Env []string
	// BrokerURL is the URL of a broker that is not of package redis. A variable gives
	// access to such a broker if it has a URL, mentions the scheme or host of BrokerURL,
	// and has its password. If there is no password, URLs of the same scheme, host and
	// path give access. Defaults to TASKGEN_BROKER; the commands serve and exec set it.
	// A broker with a method ReachedBy(text string) bool, which reports whether a text
	// gives access, needs no BrokerURL.
	BrokerURL string
	// Middleware wraps the execution of every run in the child process, the first
	// outermost, within the Middleware of the consumer. It finds in the run's Headers what
	// that has set. A child process gets it from its own main: taskapp.App passes
	// it on, and any other program calls [ChildConfig.ServeChild]. Defaults to none.
	Middleware []Middleware
	// Cgroup is a delegated directory of a cgroup v2 hierarchy, with the memory
	// controller enabled for the groups in it. Each child gets a group: the kernel
	// holds the child and what it starts to the task's memory cap, and none of these
	// processes outlives the child. Defaults to the parent of this process's own group
	// if that was delegated, as by systemd's Delegate=memory with DelegateSubgroup=;
	// otherwise there are no groups.
	Cgroup string
}

// childGrace is how long a child process may take to end a run that is to
// stop, before it is killed.
const childGrace = 500 * time.Millisecond

// pool returns the configuration of a pool of children.
func (c ChildConfig) pool(processes int, logger *slog.Logger, grants func(string) bool) subprocess.Config {
	if c.Grace == 0 {
		c.Grace = childGrace
	}
	return subprocess.Config{
		Processes: processes, Logger: logger,
		Fresh: c.Fresh, MaxRuns: c.MaxRuns, MaxAge: c.MaxAge, MaxSize: c.MaxSize, MaxFailures: c.MaxFailures, Idle: c.Idle,
		Grace: c.Grace, StartTimeout: c.StartTimeout,
		Threads: c.Threads, Nice: c.Nice, OOMScore: c.OOMScore, Env: c.Env, BrokerURL: c.BrokerURL, GrantsBroker: grants, Cgroup: c.Cgroup,
	}
}

// grantsOf returns a function that reports whether a text gives access to a broker, nil
// if the broker cannot tell.
func grantsOf(b any) func(text string) bool {
	if reached, ok := b.(interface{ ReachedBy(text string) bool }); ok {
		return reached.ReachedBy
	}
	return nil
}

// checkNotChild fails in a child process that did not become one: it would do
// what its parent does, and start children of its own.
func checkNotChild() error {
	if InChild() {
		return errors.New("this process is a child for CPU-bound tasks: call taskapp.Main or taskrt.ServeChild first in main")
	}
	return nil
}

// checkTestMain fails in a test binary whose children would run its tests.
func checkTestMain(tasks taskSet) error {
	if !tasks.needsChildren() || servesChildren.Load() || !subprocess.InTest() {
		return nil
	}
	return errors.New("its CPU-bound tasks run in children of this test binary, which has not called taskrt.ServeChild: " +
		"add func TestMain(m *testing.M) { taskrt.ServeChild(Tasks()); os.Exit(m.Run()) } with the same tasks")
}

func serveChild(sets [][]Task, middleware []Middleware) error {
	tasks, err := newTaskSet(sets)
	if err != nil {
		return fmt.Errorf("serve as a child process: %w", err)
	}
	return subprocess.Serve(context.Background(), tasks.childSchema(), func(ctx context.Context, run *broker.TaskRun, parent *subprocess.Parent) *subprocess.Response {
		return tasks.serve(ctx, run, parent, middleware)
	})
}

// childSchema is what a child process has to know, for both ends to compare.
func (s taskSet) childSchema() []string {
	var schema []string
	for _, t := range s.list {
		if t.spec.Kind == CPU {
			schema = append(schema, fmt.Sprintf("%s %q %s -> %s", t.spec.Name, t.spec.Aliases, t.spec.Params, t.spec.Result))
		}
	}
	return schema
}

// serve executes a run in the child process. What the run queues or waits for
// travels through the parent, so it works with every broker.
func (s taskSet) serve(ctx context.Context, run *broker.TaskRun, parent *subprocess.Parent, middleware []Middleware) *subprocess.Response {
	task, ok := s.byName[run.Task]
	if !ok {
		return respond(ctx, nil, answer{}, Permanent(fmt.Errorf("%w: the child process does not know %s; pass the same tasks to ServeChild as to NewConsumer", ErrUnknownTask, run.Task)))
	}
	deadline, _ := ctx.Deadline()
	client := newClient(relay.NewBroker(parent), broker.AllPolicies, ClientConfig{MaxPayload: math.MaxInt}) // the parent checks
	x := newRunContext(ctx, run, deadline, client, slog.New(parent.Handler()))
	x.trace = task.spec.Trace
	x.secrets = task.secretsOf(run.Payload)
	progress := relay.NewProgress(ctx, parent, x.progress.Load)
	x.offers.progressed = progress.Changed
	defer progress.Close()
	defer task.spec.surround()()
	if len(middleware) == 0 {
		a, err := protect(x, task, run.Payload, parent.DecodeMemory())
		return respond(x, x.secrets, a, err)
	}
	a, err := serveWithin(middleware, x, task, run.Payload, parent.DecodeMemory())
	return respond(x, x.secrets, a, err)
}

// serveWithin executes a run in the child process within middleware.
func serveWithin(middleware []Middleware, x *runContext, task *Task, payload []byte, memory int) (a answer, err error) {
	defer func() { // of a middleware
		if v := recover(); v != nil {
			a, err = answer{}, &panicError{v, debug.Stack()}
		}
	}()
	called := false
	err = wrap(middleware, func(ctx context.Context, _ *Run) (err error) {
		called = true
		a, err = protect(ctx, task, payload, memory)
		return err
	})(x, x.asked())
	if err == nil && !called && task.hasResult {
		err = errNotCalled
	}
	return a, err
}

// protect makes a panic of the task its error. What a Goexit is answered with
// the child process decides.
func protect(ctx context.Context, task *Task, payload []byte, memory int) (a answer, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return task.run(ctx, payload, memory)
}

// respond asks the error what it is, as execution.outcome does in the parent.
func respond(ctx context.Context, secrets *secret.Run, a answer, err error) (r *subprocess.Response) {
	var call []byte
	if err == nil && a.call != nil {
		call, err = a.call.first.MarshalBinary()
	}
	if err == nil {
		return &subprocess.Response{Result: a.result, Call: call}
	}
	defer func() {
		if v := recover(); v != nil {
			failure := failureOf(ctx, secrets, newBrokenError(err, v))
			r = &subprocess.Response{Failure: &failure}
		}
	}()
	failure := failureOf(ctx, secrets, err)
	permanent, after := retryAdvice(err)
	return &subprocess.Response{Failure: &failure, Permanent: permanent, RetryAfter: after, Snooze: snoozed(err)}
}

// answerOf returns what a task returned in a child process.
func answerOf(r *subprocess.Response) (answer, error) {
	switch {
	case r.Failure != nil:
		return answer{}, &childError{r}
	case len(r.Call) == 0:
		return answer{result: r.Result}, nil
	}
	first := new(broker.TaskRun)
	if err := first.UnmarshalBinary(r.Call); err != nil {
		return answer{}, returnedError(err)
	}
	return answer{call: &returned{first: first}}, nil
}

// surround gives the child process the environment that the task asks for, and
// returns how to take it back: a child executes one run at a time, and the next
// may be of another task.
func (s *Spec) surround() (restore func()) {
	var undo []func()
	for _, pair := range s.Env {
		key, value, _ := strings.Cut(pair, "=")
		before, had := os.LookupEnv(key)
		_ = os.Setenv(key, value) // the generator refuses names that fail
		undo = append(undo, func() {
			if had {
				_ = os.Setenv(key, before)
			} else {
				_ = os.Unsetenv(key)
			}
		})
	}
	return func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
}

// serveCalls returns the function that serves the calls of runs in child processes.
func serveCalls(c *Client) func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
	return func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
		return relay.Serve(ctx, relayBackend{c}, run, method, body), nil
	}
}

// relayBackend serves the calls of a run in a child process with the consumer's client. It
// checks sizes, which the child does not.
type relayBackend struct{ client *Client }

func (b relayBackend) Queue(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := b.client.checkSizes(runs); err != nil {
		return err
	}
	return b.client.queue(ctx, runs...)
}

func (b relayBackend) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	call := enqueueCall{runs: members, gathering: then}
	if err := b.client.checkSizes(call.all()); err != nil {
		return err
	}
	return b.client.queueCall(ctx, call)
}

func (b relayBackend) Cancel(ctx context.Context, queue, id string) error {
	return b.client.cancel(ctx, queue, id)
}

// Progress reports the progress of the run that ctx, made by the consumer, belongs to.
func (b relayBackend) Progress(ctx context.Context, p broker.Progress) {
	Progress(ctx, p.Done, p.Total, p.Note)
}

func (b relayBackend) Records() relay.Records {
	records, _ := b.client.broker.(recorder)
	return records
}

func (b relayBackend) Schedules() (relay.Schedules, error) {
	keeper, err := b.client.scheduleKeeper()
	if err != nil {
		return nil, err
	}
	return checkedSchedules{keeper, b.client}, nil
}

// checkedSchedules refuses schedules whose runs are too large.
type checkedSchedules struct {
	scheduleKeeper
	client *Client
}

func (s checkedSchedules) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	if err := s.client.checkPayload(schedule.Run.Payload); err != nil {
		return err
	}
	return s.scheduleKeeper.PutSchedule(ctx, schedule)
}
