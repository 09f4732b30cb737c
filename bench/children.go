package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker/memory"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// childTasks is a consumer of CPU-bound tasks on the embedded broker.
type childTasks struct {
	ctx    context.Context // of the stubs
	took   chan time.Duration
	done   atomic.Int64
	broker *memory.Broker
	cancel context.CancelFunc
	ended  chan error
}

// withChildren starts a consumer whose children are warm. If timed is not 0, it also
// records how long each run takes from the first middleware on, which is the full
// cost of executing it in a child.
func withChildren(ctx context.Context, processes, timed int) (*childTasks, error) {
	c := &childTasks{took: make(chan time.Duration, timed), broker: memory.New(), ended: make(chan error, 1)}
	cfg := taskrt.ConsumerConfig{Processes: processes, Logger: slog.New(slog.DiscardHandler)}
	cfg.Middleware = []taskrt.Middleware{func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			start := time.Now()
			err := next(ctx, run)
			if took := time.Since(start); timed > 0 && c.done.Load() >= int64(warmUp*processes) {
				c.took <- took
			}
			c.done.Add(1)
			return err
		}
	}}
	consumer, err := taskrt.NewConsumer(c.broker, cfg, tasks.Tasks(&tasks.Counter{}))
	if err != nil {
		return nil, err
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.ctx = taskrt.WithClient(ctx, taskrt.NewClient(c.broker, taskrt.ClientConfig{}))
	go func() { c.ended <- consumer.Run(c.ctx) }()
	return c, c.run(warmUp * processes)
}

// warmUp is how many runs a child executes before the measurement.
const warmUp = 200

func (c *childTasks) handled() int64 { return c.done.Load() }

// run executes n runs of a task that does nothing.
func (c *childTasks) run(n int) error {
	params := make([]tasks.NothingParams, n)
	for i := range params {
		params[i] = tasks.NothingParams{ID: benchID, N: i}
	}
	before := c.handled()
	for some := range slices.Chunk(params, 1000) {
		if _, err := tasks.QueueNothingBatch(c.ctx, some); err != nil {
			return err
		}
	}
	return handled(c.ctx, c, before+int64(n))
}

func (c *childTasks) stop() error {
	c.cancel()
	return errors.Join(<-c.ended, c.broker.Close())
}

// dispatch measures how long a warm child takes to do nothing.
func dispatch(ctx context.Context, _ *environment) (sample, error) {
	const runs = 3000
	c, err := withChildren(ctx, 1, runs)
	if err != nil {
		return nil, err
	}
	if err := c.run(runs); err != nil {
		return nil, err
	}
	took := make([]time.Duration, runs)
	for i := range took {
		took[i] = <-c.took
	}
	return sample{dispatched: micros(took)}, c.stop()
}

// childRate measures the throughput of runs that do nothing in children.
func childRate(processes, runs int) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, _ *environment) (sample, error) {
		c, err := withChildren(ctx, processes, 0)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		if err := c.run(runs); err != nil {
			return nil, err
		}
		return sample{tasksRate: float64(runs) / time.Since(start).Seconds()}, c.stop()
	}
}

// micros returns the median in microseconds.
func micros(took []time.Duration) float64 {
	slices.Sort(took)
	return took[len(took)/2].Seconds() * 1e6
}

// greed measures how soon a run ends that exceeds its memory, and how much this
// process grows meanwhile.
func greed(ctx context.Context, _ *environment) (sample, error) {
	c, err := withChildren(ctx, 1, 0)
	if err != nil {
		return nil, err
	}
	before, err := ownSize()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	handle, err := tasks.QueueGrab(c.ctx, 200<<20)
	if err != nil {
		return nil, err
	}
	_, err = handle.Wait(c.ctx)
	took := time.Since(start)
	var failure *taskrt.RunError
	if !errors.As(err, &failure) || failure.Kind != taskrt.OOM {
		return nil, fmt.Errorf("take 200 MB under a cap of 64 MiB: ended with %v", err)
	}
	after, err := ownSize()
	if err != nil {
		return nil, err
	}
	return sample{endedAfter: took.Seconds(), grown: float64(max(after-before, 0)) / (1 << 20)}, c.stop()
}

// ownSize returns the resident memory of this process in bytes.
func ownSize() (int64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("read own size: %q", b)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// pickupWhile measures the pickup of io tasks while two children are busy for a
// second each, or idle, and how long that second takes.
func pickupWhile(busy bool) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, e *environment) (sample, error) {
		ours := taskgenSystem{}
		started := make(chan time.Time, 1)
		c, err := ours.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: 1, processes: 2, started: started})
		if err != nil {
			return nil, err
		}
		p, err := ours.open(ctx, e.server.addr, 1)
		if err != nil {
			return nil, err
		}
		defer p.close()
		ctx = taskrt.WithClient(ctx, p.(*taskgenProducer).client)
		if err := burnTwo(ctx, 10*time.Millisecond); err != nil { // now the children are warm
			return nil, err
		}
		out := make(sample)
		var burning sync.WaitGroup
		over, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		var burnErr error
		if busy {
			burning.Go(func() {
				start := time.Now()
				burnErr = burnTwo(ctx, time.Second)
				out[makespan] = time.Since(start).Seconds()
			})
		}
		waits, err := pickups(over, p, started)
		burning.Wait()
		if err := errors.Join(err, burnErr); err != nil {
			return nil, err
		}
		slices.Sort(waits)
		out[median99] = waits[int(0.99*float64(len(waits)-1))].Seconds() * 1e3
		return out, c.stop()
	}
}

// burnTwo has two children use a processor for d each, and waits for both.
func burnTwo(ctx context.Context, d time.Duration) error {
	return callers(ctx, 2, func(ctx context.Context) error {
		handle, err := tasks.QueueBurn(ctx, d, taskrt.Keep(time.Minute))
		if err == nil {
			_, err = handle.Wait(ctx)
		}
		return err
	})
}

// burnBare uses a processor in two threads of this process for a second each: the
// best that the machine allows at this moment.
func burnBare(context.Context, *environment) (sample, error) {
	var burning sync.WaitGroup
	errs := make([]error, 2)
	start := time.Now()
	for i := range errs {
		burning.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			errs[i] = tasks.Use(syscall.RUSAGE_THREAD, time.Second)
		})
	}
	burning.Wait()
	return sample{makespan: time.Since(start).Seconds()}, errors.Join(errs...)
}

// pickups queues one task at a time until ctx ends, and returns the delay of each
// start.
func pickups(ctx context.Context, p producer, started <-chan time.Time) ([]time.Duration, error) {
	var waits []time.Duration
	for n := int64(0); ctx.Err() == nil; n++ {
		time.Sleep(2 * time.Millisecond) // let the consumer become idle
		before := time.Now()
		if err := p.queue(context.WithoutCancel(ctx), noop, n); err != nil {
			return nil, err
		}
		waits = append(waits, (<-started).Sub(before))
	}
	return waits, nil
}

// poolBenchmark runs a benchmark of internal/subprocess, which other modules cannot
// import. It compares the pool of children with bare pipes, in turns of some hundred
// round trips. One run gives the figures of both.
type poolBenchmark struct {
	name, operations string
	metrics          map[string]float64 // of the last run; each is removed when read
}

func (p *poolBenchmark) metric(ctx context.Context, name string) (float64, error) {
	if _, ok := p.metrics[name]; !ok {
		if err := p.run(ctx); err != nil {
			return 0, err
		}
	}
	v, ok := p.metrics[name]
	if !ok {
		return 0, fmt.Errorf("read benchmark %s: it has no %s", p.name, name)
	}
	delete(p.metrics, name)
	return v, nil
}

func (p *poolBenchmark) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+p.name+"$", "-benchtime", p.operations, "./internal/subprocess")
	cmd.Dir = ".." // make bench and the page run this command in the parent folder
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run benchmark %s: %w: %s", p.name, err, out)
	}
	p.metrics = make(map[string]float64)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.HasPrefix(fields[0], p.name) {
			continue
		}
		for pair := range slices.Chunk(fields[2:], 2) { // a value and its unit
			if v, err := strconv.ParseFloat(pair[0], 64); err == nil && len(pair) == 2 {
				p.metrics[pair[1]] = v
			}
		}
	}
	return nil
}

// of returns a measurement of a subject's figure: a metric times a factor.
func (p *poolBenchmark) of(figure, metric string, times float64) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, _ *environment) (sample, error) {
		v, err := p.metric(ctx, metric)
		return sample{figure: v * times}, err
	}
}

// goProcess measures the start and end of a Go program that does nothing.
func goProcess(ctx context.Context, _ *environment) (sample, error) {
	dir, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "nothing")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		return nil, err
	}
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, source).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build a program that does nothing: %w: %s", err, out)
	}
	took := make([]time.Duration, 100)
	for i := range took {
		start := time.Now()
		if err := exec.CommandContext(ctx, binary).Run(); err != nil {
			return nil, err
		}
		took[i] = time.Since(start)
	}
	return sample{dispatched: micros(took)}, nil
}
