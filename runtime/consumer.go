package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// What one consumer can have of slots: beyond that a number is a mistake.
const (
	maxConcurrency = 1_000_000
	maxProcesses   = 10_000
)

// ConsumerConfig tunes a consumer; its zero value works.
type ConsumerConfig struct {
	// Concurrency is how many io runs execute at once, at most 1,000,000. Defaults
	// to 10 × GOMAXPROCS.
	Concurrency int
	// Processes is how many child processes execute CPU-bound runs, one at a
	// time each, at most 10,000. They start when first needed. Defaults to
	// GOMAXPROCS.
	Processes int
	// Children tunes those child processes.
	Children ChildConfig
	// Queues are the queues to take from, with their weights: of two queues
	// with runs, one with weight 6 is asked first twice as often as one with
	// weight 3. A name with * is a pattern, in which each * stands for any
	// characters: the queues that match, those that come later within 3 seconds,
	// are taken from too, each with that weight; the longest pattern counts.
	// Defaults to the queues of the consumer's tasks, with weight 1.
	Queues map[string]int
	// Strict makes the weights an order: a queue is asked only when those with
	// higher weights are empty.
	Strict bool
	// Grace is how long running runs may go on after Run's context has ended.
	// Then their contexts are cancelled and they are handed back. Defaults to 30s.
	Grace time.Duration
	// Lease is how long the broker waits for a sign of life before it gives
	// this consumer's runs to another. Defaults to 10s; at least 100ms.
	Lease time.Duration
	// MaxCrashes is how often a run may be handed out without coming to an end
	// (its process died) before it becomes a dead letter. Defaults to 3. The last
	// time it is tried alone. If it goes on for 2 seconds then and its process dies
	// later all the same, it gets one more start on Redis. The lost lease of a consumer
	// that lives does not count. On Redis a death counts from the second time on only
	// if the run had begun: what a consumer that dies has merely taken ahead outlives
	// some thirty deaths. With 1 there is no second time.
	MaxCrashes int
	// DeadAge is how long dead letters of the consumer's queues are kept; older
	// ones are deleted within an hour, and how many is logged. Defaults to 0: as
	// many as the broker keeps, however old.
	DeadAge time.Duration
	// MaxResult is the size in bytes beyond which a run's encoded result makes
	// the run fail for good. Defaults to 1 MiB.
	MaxResult int
	// MaxPayload is the size in bytes beyond which the parameters of a run that
	// a task queues are refused. Defaults to 1 MiB. A client in Run's context
	// has its own.
	MaxPayload int
	// Codec bounds what the consumer decodes.
	Codec CodecLimits
	// Middleware wraps every run, the first outermost.
	Middleware []Middleware
	// Retry, if set, decides after a failed attempt instead of the tasks' own
	// retry policies. It returns how long to wait before the next attempt, and
	// false if there is to be none. It is not called if the task returned an error
	// of Permanent or RetryAfter, or if the process crashed; if it panics the task's
	// policy decides. It may be called concurrently. Defaults to the tasks' policies.
	Retry func(run *Run, err error) (wait time.Duration, ok bool)
	// OnEvent, if set, is told when runs start and end here. It is called on the
	// goroutine of the run, so it should be quick, and concurrently. Of runs that
	// were to follow others, and were left out as duplicates, it is told on another.
	OnEvent func(Event)
	// Logger receives what happens to runs. Defaults to slog's default logger.
	Logger *slog.Logger

	// grants, unless it is nil, reports whether a value gives access to the broker.
	grants func(value string) bool
}

func (cfg *ConsumerConfig) setDefaults() error {
	for _, f := range []struct {
		name      string
		value     *int
		def, most int
	}{
		{"Concurrency", &cfg.Concurrency, 10 * goruntime.GOMAXPROCS(0), maxConcurrency},
		{"Processes", &cfg.Processes, goruntime.GOMAXPROCS(0), maxProcesses},
		{"MaxCrashes", &cfg.MaxCrashes, 3, math.MaxInt},
		{"MaxResult", &cfg.MaxResult, 1 << 20, math.MaxInt},
		{"MaxPayload", &cfg.MaxPayload, defaultMaxPayload, math.MaxInt},
	} {
		switch {
		case *f.value < 0 && f.most == math.MaxInt:
			return fmt.Errorf("field %s is %d, it cannot be negative", f.name, *f.value)
		case *f.value < 0 || *f.value > f.most:
			return fmt.Errorf("field %s is %d, it must be from 0, the default, to %d", f.name, *f.value, f.most)
		}
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	if cfg.Grace == 0 {
		cfg.Grace = 30 * time.Second
	}
	if cfg.Lease == 0 {
		cfg.Lease = 10 * time.Second
	}
	if cfg.Grace < 0 {
		return fmt.Errorf("field Grace is %s, it cannot be negative", cfg.Grace)
	}
	if cfg.DeadAge < 0 {
		return fmt.Errorf("field DeadAge is %s, it cannot be negative", cfg.DeadAge)
	}
	if cfg.Lease < 100*time.Millisecond {
		return fmt.Errorf("field Lease is %s, it must be at least 100ms", cfg.Lease)
	}
	if err := cfg.Codec.check(); err != nil {
		return fmt.Errorf("field Codec: %w", err)
	}
	if err := checkQueues(cfg.Queues); err != nil {
		return fmt.Errorf("field Queues: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := cfg.Children.pool(cfg).Check(); err != nil {
		return fmt.Errorf("field Children: %w", err)
	}
	return nil
}

// Consumer executes runs. Several may work on one broker, in one process or in
// many.
type Consumer struct {
	broker  broker.Broker
	cfg     ConsumerConfig
	tasks   taskSet
	kinds   [2]bool // which kinds its tasks are of
	limited [2]bool // of which kinds it has tasks with a limit
	queues  *queueSet
	retake  atomic.Pointer[context.CancelFunc] // ends the taker's request for runs of the queues that were
	client  *Client
	lanes   [2]*lane         // by kind
	duties  map[string]*duty // the tasks by their names and aliases
	logger  *slog.Logger
	notices notices
	trials  trials
	skipped skipEvents
	// stopHint, unless it is nil, is put behind what is logged when a stop begins.
	stopHint func() string
	running  atomic.Bool

	// Of discover, which is called by one goroutine at a time.
	undiscovered time.Time       // until when it does not log again that it failed
	oddNames     map[string]bool // names that no queue can have, which were logged

	durabilityEvery time.Duration
}

// NewConsumer returns a consumer of the given tasks. The error names the field
// or the task that is wrong. In a test binary, tasks that are CPU-bound need a
// TestMain that calls [ServeChild].
func NewConsumer(b broker.Broker, cfg ConsumerConfig, sets ...[]Task) (*Consumer, error) {
	if err := checkNotChild(); err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	if err := cfg.setDefaults(); err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	tasks, err := newTaskSet(sets)
	if err == nil && len(tasks.list) == 0 {
		err = errors.New("it has no tasks; pass what the generated Tasks functions return")
	}
	if err == nil {
		err = checkTestMain(tasks)
	}
	if err != nil {
		return nil, fmt.Errorf("make a consumer: %w", err)
	}
	cfg.grants = grantsOf(b)
	c := &Consumer{
		broker: b,
		cfg:    cfg,
		tasks:  tasks,
		client: NewClient(b, ClientConfig{MaxPayload: cfg.MaxPayload}),
		lanes:  [2]*lane{IO: newLane(cfg.Concurrency), CPU: newLane(cfg.Processes)},
		duties: dutiesOf(tasks),
		logger: cfg.Logger,

		notices: notices{logger: cfg.Logger},

		durabilityEvery: durabilityEvery,
	}
	weights := cfg.Queues
	if len(weights) == 0 {
		weights = make(map[string]int)
	}
	for _, t := range tasks.list {
		c.kinds[t.spec.Kind] = true
		if t.spec.Limit != (Limit{}) {
			c.limited[t.spec.Kind] = true
		}
		if len(cfg.Queues) == 0 {
			weights[t.spec.Queue] = 1
		}
	}
	c.queues = newQueueSet(weights, cfg.Strict)
	return c, nil
}

// Run takes and executes runs until ctx ends; then it stops in two phases,
// first without taking more for up to Grace, then with the contexts of what
// still runs cancelled, and hands back what has not ended. It returns nil
// after a full stop, an error when the broker could not be reached at the
// start, when tasks ignored the end of their contexts, or when the broker could
// not be told what became of runs, which may then start again.
//
// While Run goes on, a write to standard output or error that nobody reads any
// more does not end the process, as it ends other Go programs (SIGPIPE).
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run consumer: it runs already")
	}
	defer c.running.Store(false)
	if !subprocess.InTest() { // whose goroutine of os/signal could be in a bubble of synctest for ever
		defer outliveReaders()()
	}
	if client, err := clientOf(ctx); err == nil && ctx.Value(clientKey{}) != nil {
		c.client = client
	}
	c.cfg.Codec.setDefaults(c.cfg.MaxPayload, c.client.maxPayload)
	c.warnOfQueues()
	children := c.cfg.Children.pool(&c.cfg)
	children.Call, children.Schema = callServer{c.client}.serve, c.tasks.childSchema()
	pool, err := subprocess.NewPool(children)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	c.notices.begin()
	defer c.notices.end()
	for _, l := range c.lanes {
		l.open()
		defer l.close()
	}
	var loops sync.WaitGroup
	recovering, stopRecovery := context.WithCancel(ctx)
	loops.Go(func() { c.recoverLoop(recovering) })
	loops.Go(func() { c.auditLoop(recovering) })
	loops.Go(func() { watchDurability(recovering, c.broker, c.durabilityEvery, c.logger) })
	if c.cfg.DeadAge > 0 {
		loops.Go(func() { c.trimLoop(recovering) })
	}
	if len(c.queues.patterns) > 0 {
		c.discover(ctx)
		loops.Go(func() { c.discoverLoop(recovering) })
	}
	err = c.sessions(ctx, pool, &loops)
	stopRecovery()
	loops.Wait()
	c.tellDamaged()
	c.drainSkipEvents()
	closePool(ctx, pool, c.logger)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	return nil
}

// closePool ends children whose runs are over. One that does not go by itself
// has nothing to lose when it is killed.
func closePool(ctx context.Context, pool *subprocess.Pool, logger *slog.Logger) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), childGrace)
	defer cancel()
	if err := pool.Close(closing); err != nil {
		logger.Debug("child processes did not end by themselves", "error", err)
	}
}

// warnOfQueues reports what looks like a mistake in the names of queues.
func (c *Consumer) warnOfQueues() {
	taken := make(map[string]bool)
	for _, queue := range c.queues.names() {
		taken[queue] = true
	}
	left := make(map[string]bool)
	var names []string // of tasks
	for _, t := range c.tasks.list {
		if !taken[t.spec.Queue] && !c.queues.matches(t.spec.Queue) {
			left[t.spec.Queue] = true
			names = append(names, t.spec.Name)
		}
	}
	if len(left) > 0 {
		c.logger.Warn("this consumer does not take from the queues of some of its tasks",
			"queues", someOf(slices.Sorted(maps.Keys(left))), "tasks", someOf(names))
	}
}

// someOf writes a list of names, of a long one the beginning.
func someOf(names []string) string { return firstOf(names, 5) }

// firstOf writes a list of names, the first ones if they are more than most.
func firstOf(names []string, most int) string {
	list := strings.Join(names[:min(len(names), most)], ", ")
	if more := len(names) - most; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// busy is how many runs execute.
func (c *Consumer) busy() int {
	return c.lanes[IO].running() + c.lanes[CPU].running()
}
