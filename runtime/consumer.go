package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	goruntime "runtime"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/worker"
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
	// if the run had begun: a run that a dying consumer had only prefetched survives
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
	// StopHint is appended to the line that is logged when Run's context has ended
	// while runs execute, such as "a second signal stops at once". Defaults to nothing.
	StopHint string

	// grants, unless it is nil, reports whether a value gives access to the broker.
	grants func(value string) bool
}

// Validate returns an error that names the field that is wrong, as [NewConsumer] does.
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
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if err := cfg.Children.pool(cfg.Processes, cfg.Logger, cfg.grants).Check(); err != nil {
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
	client  *Client
	worker  *worker.Worker
	logger  *slog.Logger
	events  notifier
	running atomic.Bool

	// stopHint, unless it is nil, returns what is logged behind the beginning of a stop.
	stopHint   func() string
	risksEvery time.Duration
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
		logger: cfg.Logger,
		events: notifier{onEvent: cfg.OnEvent, logger: cfg.Logger},

		risksEvery: risksEvery,
	}
	c.worker = c.newWorker()
	return c, nil
}

// newWorker returns the worker that takes the consumer's runs.
func (c *Consumer) newWorker() *worker.Worker {
	cfg := worker.Config{
		Broker: c.broker, Logger: c.logger,
		Slots:  [2]int{IO: c.cfg.Concurrency, CPU: c.cfg.Processes},
		Queues: c.cfg.Queues, Strict: c.cfg.Strict,
		Lease: c.cfg.Lease, Grace: c.cfg.Grace, MaxCrashes: c.cfg.MaxCrashes, DeadAge: c.cfg.DeadAge,
		StopHint: func() string {
			if c.stopHint == nil {
				return ""
			}
			return c.stopHint()
		},
	}
	for _, t := range c.tasks.list {
		cfg.Tasks = append(cfg.Tasks, worker.Task{
			Name: t.spec.Name, Aliases: t.spec.Aliases, Kind: t.spec.Kind, Queue: t.spec.Queue, Limited: t.spec.Limit != (Limit{}),
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
