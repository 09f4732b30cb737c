package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/instance"
	"github.com/taskgen/taskgen/internal/risks"
	"github.com/taskgen/taskgen/internal/sigpipe"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/worker"
)

// The most slots that a consumer can have.
const (
	maxConcurrency = 1_000_000
	maxProcesses   = 10_000
)

// ConsumerConfig tunes a consumer. Its zero value works.
type ConsumerConfig struct {
	// Concurrency is how many io runs execute at once, at most 1,000,000. Defaults to
	// 10 × GOMAXPROCS.
	Concurrency int
	// Processes is how many child processes execute CPU-bound runs, each one run at a
	// time, at most 10,000. A child starts when it is first needed. Defaults to
	// GOMAXPROCS.
	Processes int
	// Children tunes those child processes.
	Children ChildConfig
	// Queues are the queues to take from, with their weights. Of two queues with runs,
	// one with weight 6 is asked first twice as often as one with weight 3. A name with
	// * is a pattern, in which each * stands for any characters: the consumer takes from
	// all matching queues, each with that weight, and notices new ones within 3 seconds.
	// If several patterns match, the longest counts. Defaults to the queues of the
	// consumer's tasks, with weight 1.
	Queues map[string]int
	// Strict makes the weights an order: a queue is asked only if those with higher
	// weights are empty. Defaults to false.
	Strict bool
	// Grace is how long runs may go on after Run's context has ended. Then their
	// contexts are cancelled and the runs are given back. Defaults to 30s.
	Grace time.Duration
	// Lease is how long the broker waits for a sign of life before it gives the
	// consumer's runs to another. Defaults to 10s; at least 100ms.
	Lease time.Duration
	// MaxCrashes is how often a run may be delivered without coming to an end, because
	// its process died, before it becomes a dead letter. Defaults to 3. With 1 there is
	// no second delivery.
	//
	// At its last delivery the run executes alone. A Redis broker delivers it once more if
	// its process dies after more than 2 seconds of that. The lost lease of a consumer
	// that lives does not count. On Redis, a run's second or later death does not count
	// either if the run had not started. The guide has the details, under Crashes.
	MaxCrashes int
	// DeadAge is how long dead letters of the consumer's queues are kept. Older ones are
	// deleted within an hour, and their number is logged. Defaults to 0: as many as the
	// broker keeps, however old.
	DeadAge time.Duration
	// MaxResult is the size in bytes beyond which an encoded result makes its run fail
	// for good. Defaults to 1 MiB.
	MaxResult int
	// MaxPayload is the size in bytes beyond which the parameters of a run that a task
	// queues are refused. A client in Run's context has its own. Defaults to 1 MiB.
	MaxPayload int
	// Codec bounds what the consumer decodes.
	Codec CodecLimits
	// Middleware wraps every run, the first outermost. Defaults to none.
	Middleware []Middleware
	// Retry, if set, decides after a failed attempt instead of the tasks' own retry
	// policies. It returns how long to wait before the next attempt, and false if there
	// is to be none. It is not called if the task returned an error of Permanent,
	// RetryAfter or Snooze, or if the process crashed. If it panics, the task's policy
	// decides. It may be called concurrently. Defaults to the tasks' policies.
	Retry func(run *Run, err error) (wait time.Duration, ok bool)
	// OnEvent, if set, is called when runs start and end here: concurrently, and on the
	// goroutine of the run, so it should be quick. Once the broker has recorded or
	// refused an outcome, and for a follow-up that was skipped as a duplicate, it is
	// called on a goroutine of its own. [Events] joins several functions. Defaults to
	// none.
	OnEvent func(Event)
	// Observers are told of the same events as OnEvent, at once, see [Observer]. Defaults
	// to none.
	Observers []Observer
	// Address is where the process serves metrics, such as 10.0.0.7:8080. The broker's
	// [broker.Instance] has it, for people, with the name of this machine in place of no
	// host. Defaults to none.
	Address string
	// Version is that of the program, for people who ask which consumers are up. Defaults
	// to the version of the main module, or the commit that it was built of.
	Version string
	// NoTallies has the consumer count no runs for charts, see [broker.Tallies].
	// Defaults to false: it sends counts by task and minute to the broker every 10
	// seconds.
	NoTallies bool
	// Logger receives what happens to runs. Defaults to slog's default logger.
	Logger *slog.Logger
	// StopHint is appended to the line that is logged when Run's context has ended while
	// runs execute, such as "a second signal stops at once". Defaults to nothing.
	StopHint string

	// grants, unless it is nil, reports whether a value gives access to the broker.
	grants func(value string) bool
}

// Validate returns the error that [NewConsumer] would return, which names the wrong field.
func (cfg ConsumerConfig) Validate() error { return cfg.setDefaults() }

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
	for i, o := range cfg.Observers {
		if !canCompare(o) {
			return fmt.Errorf("field Observers: number %d is a %T, which cannot be compared; pass a pointer", i+1, o)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := cfg.Children.pool(cfg.Processes, cfg.Logger, cfg.grants).Check(); err != nil {
		return fmt.Errorf("field Children: %w", err)
	}
	return nil
}

// Consumer takes and executes the runs of its tasks. Any number of consumers may work on
// one broker, in one process or in many.
type Consumer struct {
	broker  broker.Broker
	cfg     ConsumerConfig
	tasks   taskSet
	client  *Client
	worker  *worker.Worker
	logger  *slog.Logger
	events  *notifier
	running atomic.Bool

	children children
	changes  chan struct{} // has a value when the consumer is to announce itself again
	scrapes  instance.Scrapes

	// stopHint, unless it is nil, returns what is logged behind the beginning of a stop.
	stopHint   func() string
	risksEvery time.Duration
}

// NewConsumer returns a consumer of the given tasks. The error names the field or the task
// that is wrong. In a test binary, CPU-bound tasks need a TestMain that calls [ServeChild].
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
		broker:  b,
		cfg:     cfg,
		tasks:   tasks,
		client:  NewClient(b, ClientConfig{MaxPayload: cfg.MaxPayload}),
		logger:  cfg.Logger,
		changes: make(chan struct{}, 1),
		events:  newNotifier(&cfg),

		risksEvery: risks.Every,
	}
	c.worker = c.newWorker()
	return c, nil
}

// newWorker returns the worker that takes the consumer's runs.
func (c *Consumer) newWorker() *worker.Worker {
	cfg := worker.Config{
		Broker: c.broker, Logger: c.logger, Limits: programLimits(c.tasks.list),
		Slots:  [2]int{IO: c.cfg.Concurrency, CPU: c.cfg.Processes},
		Queues: c.cfg.Queues, Strict: c.cfg.Strict,
		Lease: c.cfg.Lease, Grace: c.cfg.Grace, MaxCrashes: c.cfg.MaxCrashes, DeadAge: c.cfg.DeadAge,
		Host: broker.ThisHost(), NoTallies: c.cfg.NoTallies, Changed: c.change,
		StopHint: func() string {
			if c.stopHint == nil {
				return ""
			}
			return c.stopHint()
		},
	}
	for _, t := range c.tasks.list {
		cfg.Tasks = append(cfg.Tasks, worker.Task{
			Name: t.spec.Name, Aliases: t.spec.Aliases, Kind: t.spec.Kind, Queues: t.spec.Queues(), Limited: t.spec.Limit != (Limit{}),
		})
	}
	return worker.New(cfg)
}

// checkQueueName refuses a name that no queue can have.
func checkQueueName(name string) error {
	return (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate()
}

// checkQueues refuses names and weights that queues cannot have.
func checkQueues(queues map[string]int) error {
	for name, weight := range queues {
		if err := checkQueueName(name); err != nil {
			return err
		}
		if weight < 1 {
			return fmt.Errorf("queue %q has the weight %d, it must be at least 1", name, weight)
		}
	}
	return nil
}

// Run takes and executes runs, and blocks until it has stopped. When ctx ends it takes no
// more runs. It lets those that execute go on for up to Grace, then cancels their contexts,
// and gives back what has not ended. It returns nil after a complete stop, and an error
//
//   - if the broker cannot be reached at the start,
//   - if tasks ignore the end of their contexts,
//   - if outcomes cannot be recorded: their runs may start again,
//   - if the consumer runs already.
//
// Until Run returns, a write to a closed standard output or error does not end the process
// with SIGPIPE, as it would other Go programs.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run consumer: it runs already")
	}
	defer c.running.Store(false)
	if !subprocess.InTest() { // whose goroutine of os/signal could be in a bubble of synctest for ever
		defer sigpipe.Drop()()
	}
	if client, err := clientOf(ctx); err == nil && ctx.Value(clientKey{}) != nil {
		c.client = client
	}
	if hint := c.cfg.StopHint; hint != "" {
		c.stopHint = func() string {
			if ctx.Err() == nil {
				return "" // it stops by itself
			}
			return " (" + hint + ")"
		}
	}
	c.cfg.Codec.setDefaults(c.cfg.MaxPayload, c.client.maxPayload)
	handler, err := surrounded(c.cfg.Middleware)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	children := c.cfg.Children.pool(c.cfg.Processes, c.cfg.Logger, c.cfg.grants)
	children.Call, children.Schema = serveCalls(c.client), c.tasks.childSchema()
	children.Kills = &c.children.kills
	pool, err := subprocess.NewPool(children)
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	c.children.pool.Store(pool)
	defer c.children.pool.Store(nil)
	watching, stopWatching := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { risks.Watch(watching, c.broker, c.risksEvery, c.logger) })
	withdraw := c.announce(ctx, &loops)
	err = c.worker.Run(ctx, &executor{Consumer: c, pool: pool, handler: handler, offers: offers{client: c.client, broker: c.broker, logger: c.logger, bounded: true}})
	stopWatching()
	withdraw()
	c.events.drain()
	closePool(ctx, pool, c.logger)
	loops.Wait()
	if err != nil {
		return fmt.Errorf("run consumer: %w", err)
	}
	return nil
}

// closePool ends the children. Their runs have ended, so killing one that does not exit by
// itself loses nothing.
func closePool(ctx context.Context, pool *subprocess.Pool, logger *slog.Logger) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), childGrace)
	defer cancel()
	if err := pool.Close(closing); err != nil {
		logger.Debug("child processes did not end by themselves", "error", err)
	}
}

// CodecLimits bound what a consumer decodes, as whoever can write to the broker may have
// stored it. A run beyond them becomes a dead letter of kind [Schema]. Its zero value
// works.
type CodecLimits struct {
	// Payload is the size in bytes beyond which a run's parameters, with those of its
	// follow-ups, are not decoded. A follow-up may have a result of up to MaxResult
	// more. The run that gathers a [Group] has a bound of its own. Defaults to 1 MiB,
	// or to what the consumer's tasks may queue if that is more: MaxPayload, or that of
	// a client in Run's context.
	Payload int
	// Memory is how many bytes of memory the decoding of one run's parameters may take,
	// in a child process too. The memory that a type's own methods take is estimated.
	// Defaults to 16 times Payload.
	Memory int
}

func (l *CodecLimits) check() error {
	if l.Payload < 0 {
		return fmt.Errorf("field Payload is %d, it cannot be negative", l.Payload)
	}
	if l.Memory < 0 {
		return fmt.Errorf("field Memory is %d, it cannot be negative", l.Memory)
	}
	return nil
}

// setDefaults takes what runs may be queued with.
func (l *CodecLimits) setDefaults(payloads ...int) {
	if l.Payload != 0 {
		return
	}
	l.Payload = defaultMaxPayload
	for _, n := range payloads {
		l.Payload = max(l.Payload, n)
	}
}

// checkSize refuses a run that is too large to be decoded.
func (l *CodecLimits) checkSize(run *broker.TaskRun, maxResult int) error {
	most := l.Payload
	if run.ParentID != "" {
		most += min(maxResult, math.MaxInt-most) // of the run that it may follow
	}
	if size := totalPayload(run); size > most {
		return fmt.Errorf("the parameters take %d bytes, at most %d are decoded; ConsumerConfig.Codec.Payload sets the limit", size, most)
	}
	return nil
}

// memory is what the decoding of a payload may take.
func (l *CodecLimits) memory(payload []byte) int {
	if l.Memory > 0 {
		return l.Memory
	}
	return codec.MemoryFactor * min(max(l.Payload, len(payload)), math.MaxInt/codec.MemoryFactor)
}

// totalPayload is how many bytes the parameters of a run and of what follows it take. Members
// of groups count by themselves.
func totalPayload(run *broker.TaskRun) int {
	size := len(run.Payload)
	if run.Links == nil {
		return size
	}
	for _, c := range run.Links.Then {
		size += totalPayload(c.Run)
	}
	return size
}

const defaultMaxPayload = 1 << 20
