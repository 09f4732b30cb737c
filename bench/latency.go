package main

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// pickup measures the time from a call that queues a task to its start in an idle
// consumer.
func pickup(ctx context.Context, e *environment, s system) (sample, error) {
	const tasks = 200
	started := make(chan time.Time, 1)
	c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: 1, started: started})
	if err != nil {
		return nil, err
	}
	p, err := s.open(ctx, e.server.addr, 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	var waits []time.Duration
	for end := time.Now().Add(2 * e.length); len(waits) < tasks && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // let the consumer become idle
		before := time.Now()
		if err := p.queue(ctx, noop, int64(len(waits))); err != nil {
			return nil, err
		}
		select {
		case at := <-started:
			waits = append(waits, at.Sub(before))
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return percentiles(waits), c.stop()
}

func percentiles(waits []time.Duration) sample {
	slices.Sort(waits)
	ms := func(q float64) float64 {
		return waits[int(q*float64(len(waits)-1))].Seconds() * 1e3
	}
	return sample{median50: ms(0.5), median99: ms(0.99)}
}

// tickLateness measures how late a scheduled task starts on an idle consumer.
func tickLateness(ctx context.Context, e *environment) (sample, error) {
	ours, counter := taskgenSystem{}, &tasks.Counter{Late: make(chan time.Duration, 1000)}
	c, err := ours.serve(ctx, e.server.addr, consumeOptions{slots: 10, queues: 1}, counter)
	if err != nil {
		return nil, err
	}
	b, closer, err := ours.connect(ctx, e.server.addr)
	if err != nil {
		return nil, err
	}
	defer closer()
	s, err := taskrt.NewScheduler(b, taskrt.SchedulerConfig{}, tasks.Tasks(counter))
	if err != nil {
		return nil, err
	}
	late, err := lateness(ctx, s, counter.Late, 2*e.length)
	if err := errors.Join(err, c.stop()); err != nil {
		return nil, err
	}
	if len(late) == 0 {
		return nil, errors.New("no tick was seen: give it more -time")
	}
	return percentiles(late), nil
}

// lateness runs the scheduler for a time, and returns what its ticks report on late.
func lateness(ctx context.Context, s *taskrt.Scheduler, late <-chan time.Duration, length time.Duration) ([]time.Duration, error) {
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var all []time.Duration
	for end := time.After(length); ; {
		select {
		case d := <-late:
			all = append(all, d)
		case <-end:
			stop()
			return all, <-ended
		}
	}
}

// idle measures the load of a consumer without work on the server.
func idle(queues int) func(context.Context, *environment, system) (sample, error) {
	return func(ctx context.Context, e *environment, s system) (sample, error) {
		c, err := s.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: queues})
		if err != nil {
			return nil, err
		}
		time.Sleep(time.Second) // let it become idle
		before, err := e.server.usage(ctx)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		time.Sleep(2 * e.length)
		after, err := e.server.usage(ctx)
		if err != nil {
			return nil, err
		}
		seconds := time.Since(start).Seconds()
		return sample{commandRate: (after.commands - before.commands - 1) / seconds}, c.stop()
	}
}

// fleet is how many consumers share the uneven tasks.
const fleet = 100

// unevenTasks returns tasks of which one in a hundred takes a hundred times as long.
// The long ones are spread evenly over the first four fifths: the whole fleet would
// have to wait for one that starts last. Ideal is the time if the work alone took
// time and was shared evenly.
func unevenTasks(length time.Duration) (params []tasks.CounterSleepParams, ideal time.Duration) {
	short := shortTask(length)
	long := 100 * short
	n := int(fleet * 5 * length / (99*short + long)) // in hundreds
	params = make([]tasks.CounterSleepParams, 100*n)
	for i := range params {
		params[i].D = short
	}
	for i := range n {
		params[80*i+40].D = long
	}
	return params, time.Duration(n) * (99*short + long) / fleet
}

// shortTask returns the length of a short task: a thousandth of the ideal.
func shortTask(length time.Duration) time.Duration { return length / 200 }

// startFleet starts the consumers of the fleet, which share a counter.
func startFleet(ctx context.Context, e *environment, ours taskgenSystem) (consumers []consumer, err error) {
	counter := new(tasks.Counter)
	consumers = make([]consumer, fleet)
	for i := range consumers {
		if consumers[i], err = ours.serve(ctx, e.server.addr, consumeOptions{slots: 1, queues: 1}, counter); err != nil {
			return nil, err
		}
	}
	return consumers, nil
}

// uneven queues uneven tasks for a fleet of idle consumers with one slot each, and
// measures from the first enqueue to the last end.
func uneven(ctx context.Context, e *environment) (sample, error) {
	params, ideal := unevenTasks(e.length)
	ours := taskgenSystem{}
	consumers, err := startFleet(ctx, e, ours)
	if err != nil {
		return nil, err
	}
	b, closer, err := ours.connect(ctx, e.server.addr)
	if err != nil {
		return nil, err
	}
	defer closer()
	time.Sleep(time.Second) // let them become idle
	queueing := taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
	start := time.Now()
	for part := range slices.Chunk(params, 1000) {
		if _, err := tasks.QueueCounterSleepBatch(queueing, part); err != nil {
			return nil, err
		}
	}
	if err := handled(ctx, consumers[0], int64(len(params))); err != nil { // they share a counter
		return nil, err
	}
	took := time.Since(start)
	var next atomic.Int64
	err = callers(ctx, fleet, func(context.Context) error { return consumers[next.Add(1)-1].stop() })
	return sample{makespan: took.Seconds(), overIdeal: took.Seconds() / ideal.Seconds()}, err
}
