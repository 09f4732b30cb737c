package worker

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// mostListed is how many names a line of log lists.
const mostListed = 5

// Config describes a worker. Fields without a comment are those of taskrt.ConsumerConfig,
// which documents them.
type Config struct {
	Broker     broker.Broker
	Tasks      []Task
	Limits     *broker.ProgramLimits // of the tasks; nil without
	Logger     *slog.Logger
	Slots      [2]int // how many runs of each kind execute concurrently
	Queues     map[string]int
	Strict     bool
	Grace      time.Duration
	Lease      time.Duration
	MaxCrashes int
	DeadAge    time.Duration
	Host       string // in the histories of runs
	NoTallies  bool
	Changed    func()        // if set, is called when the worker's session has changed; it must not block
	StopHint   func() string // if set, returns what follows the line of log that a stop begins with
}

// Task is a task as a worker knows it.
type Task struct {
	Name    string
	Aliases []string
	Kind    broker.Kind
	Queues  []string // from which its runs are taken
	Limited bool     // a limit bounds how many of its runs are in flight, or start within a time
}

// Worker executes the runs of some tasks. Its methods may be called concurrently.
type Worker struct {
	cfg     Config
	broker  broker.Broker
	logger  *slog.Logger
	kinds   [2]bool // which kinds the tasks are of
	limited [2]bool // which kinds have Limited tasks: a broker hands out their runs for free slots only
	queues  *queueSet
	refetch atomic.Pointer[context.CancelFunc] // ends a request for runs of queues that are not the current ones
	slots   [2]*slotPool                       // by kind
	tasks   []*taskState
	byName  map[string]*taskState // aliases included
	sampled sampledLogger
	trials  trials
	exec    Executor       // of the current Run
	tallies broker.Tallies // nil: none are counted
	unsent  unsentTallies
	count   counters
	vitals  vitals

	// One goroutine at a time discovers queues, and uses these.
	discoverLogAt time.Time       // failures are not logged before
	invalidNames  map[string]bool // names that no queue can have, logged already
}

// New returns a worker.
func New(cfg Config) *Worker {
	w := &Worker{
		cfg: cfg, broker: cfg.Broker, logger: cfg.Logger,
		slots:   [2]*slotPool{broker.IO: newSlotPool(cfg.Slots[broker.IO]), broker.CPU: newSlotPool(cfg.Slots[broker.CPU])},
		byName:  make(map[string]*taskState),
		vitals:  vitals{changed: cfg.Changed},
		sampled: sampledLogger{logger: cfg.Logger},
	}
	weights := cfg.Queues
	if len(weights) == 0 {
		weights = make(map[string]int)
	}
	if !cfg.NoTallies {
		w.tallies, _ = cfg.Broker.(broker.Tallies)
	}
	for _, t := range cfg.Tasks {
		w.kinds[t.Kind] = true
		w.limited[t.Kind] = w.limited[t.Kind] || t.Limited
		if len(cfg.Queues) == 0 {
			for _, queue := range t.Queues {
				weights[queue] = 1
			}
		}
		w.addTask(t)
	}
	w.queues = newQueueSet(weights, cfg.Strict)
	return w
}

func (w *Worker) addTask(t Task) {
	state := &taskState{name: t.Name, kind: t.Kind}
	w.tasks = append(w.tasks, state)
	w.byName[t.Name] = state
	for _, alias := range t.Aliases {
		w.byName[alias] = state
	}
}

// Run takes runs and has them executed until ctx ends. Then it stops as Grace says, and
// hands back what has not ended. It returns an error
//
//   - if the broker cannot be reached at the start,
//   - if tasks ignore the end of their contexts,
//   - if outcomes cannot be recorded: their runs may start again.
//
// It must not be called again before it has returned.
func (w *Worker) Run(ctx context.Context, exec Executor) error {
	w.exec = exec
	w.vitals.start(ctx)
	defer w.vitals.end()
	w.warnOfQueues()
	w.sampled.Start()
	defer w.sampled.Stop()
	for _, p := range w.slots {
		p.open()
		defer p.close()
	}
	var loops sync.WaitGroup
	caring, stopCaring := context.WithCancel(ctx)
	loops.Go(func() { w.recoverLoop(caring) })
	loops.Go(func() { w.auditLoop(caring) })
	if w.cfg.DeadAge > 0 {
		loops.Go(func() { w.deadAgeLoop(caring) })
	}
	if w.queues.hasPatterns() {
		w.discover(ctx)
		loops.Go(func() { w.discoverLoop(caring) })
	}
	if w.tallies != nil {
		loops.Go(func() { w.tallyLoop(caring) })
	}
	err := w.sessions(ctx, &loops)
	stopCaring()
	loops.Wait()
	w.sendLastTallies(ctx)
	w.logDamaged()
	return err
}

// warnOfQueues logs which tasks are in queues that the worker does not take from.
func (w *Worker) warnOfQueues() {
	left := make(map[string]bool)
	var names []string
	for _, t := range w.cfg.Tasks {
		others := slices.DeleteFunc(slices.Clone(t.Queues), w.queues.takes)
		for _, queue := range others {
			left[queue] = true
		}
		if len(others) > 0 {
			names = append(names, t.Name)
		}
	}
	if len(left) > 0 {
		w.logger.Warn("this consumer does not take from the queues of some of its tasks",
			"queues", text.List(slices.Sorted(maps.Keys(left)), mostListed), "tasks", text.List(names, mostListed))
	}
}

// LogSampled logs what happens to a run. Of many lines of one message and task it logs
// the first, and then their number.
func (w *Worker) LogSampled(level slog.Level, message string, run *broker.TaskRun, attrs ...any) {
	w.sampled.Log(level, message, run, attrs...)
}

// LogFailure logs how a run failed. ctx is that of the attempt, for the handler.
func (w *Worker) LogFailure(ctx context.Context, level slog.Level, message string, run *broker.TaskRun, failure broker.Failure, attrs ...any) {
	attrs = append(attrs, "task", run.Task, "run", run.ID, "queue", run.Queue, "attempt", run.Attempt, "kind", failure.Kind, "error", failure.Message)
	if failure.Stack != "" {
		attrs = append(attrs, "stack", failure.Stack)
	}
	w.logger.Log(ctx, level, message, attrs...)
}

// busy returns how many runs execute.
func (w *Worker) busy() int { return w.slots[broker.IO].running() + w.slots[broker.CPU].running() }
