package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// manyQueues are the scenarios of consumers of many queues.
func manyQueues(e *environment) []scenario {
	const one = "1 queue"
	return []scenario{
		{
			name:     "pickup, many queues",
			about:    "One task at a time is queued while a consumer of so many queues waits, each in another queue, " + (2 * e.length).String() + " a round; the time runs from the call that queues it to its first line.",
			subjects: []subject{{"2,000 queues", pickupOver(2000)}, {"100 queues", pickupOver(100)}, {one, pickupOver(1)}},
			goals: []goal{
				{figure: median50, against: one, atMost: 3},
				{figure: scripts, atMost: 3},
			},
		}, {
			name:     "idle, 5,000 queues",
			about:    "What a consumer of 5,000 queues without work asks of the server.",
			subjects: of(idle(5000), taskgenSystem{}),
			goals:    []goal{{figure: commandRate, atMost: 2}},
		}, {
			name:     "drain of 5,000 queues",
			about:    "A session of the broker takes and finishes a run in each of 5,000 queues, with room for 20 io tasks: while there is room for CPU-bound ones too, of which there are none, and while there is not.",
			subjects: []subject{{"CPU slot free", drainQueues(5000, 1)}, {"CPU slot busy", drainQueues(5000, 0)}},
			goals: []goal{
				{figure: tasksRate, against: "CPU slot busy", atLeast: 0.5},
				{figure: scripts, atMost: 3},
			},
		},
	}
}

// pickupOver measures the time from a call that queues a task to its start in an idle
// consumer of so many queues.
func pickupOver(queues int) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, e *environment) (sample, error) {
		ours, started := taskgenSystem{}, make(chan time.Time, 1)
		c, err := ours.consume(ctx, e.server.addr, consumeOptions{slots: 10, queues: queues, started: started})
		if err != nil {
			return nil, err
		}
		b, closer, err := ours.connect(ctx, e.server.addr)
		if err != nil {
			return nil, err
		}
		defer closer()
		ctx = taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
		pickUp := func(i int) (time.Duration, error) {
			before := time.Now()
			if _, err := tasks.QueueCounterNoop(ctx, benchID, i, taskrt.OnQueue(queueName(i%queues))); err != nil {
				return 0, err
			}
			select {
			case at := <-started:
				return at.Sub(before), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		if _, err := pickUp(0); err != nil { // let it become idle
			return nil, err
		}
		time.Sleep(time.Second)
		out, err := e.pickedUp(ctx, pickUp)
		if err != nil {
			return nil, err
		}
		return out, c.stop()
	}
}

// pickedUp measures pickUp in one queue after another, and what each cost.
func (e *environment) pickedUp(ctx context.Context, pickUp func(i int) (time.Duration, error)) (sample, error) {
	before, err := e.spent(ctx)
	if err != nil {
		return nil, err
	}
	var waits []time.Duration
	for end := time.Now().Add(2 * e.length); time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond) // let the consumer become idle
		wait, err := pickUp(7 * len(waits))
		if err != nil {
			return nil, err
		}
		waits = append(waits, wait)
	}
	out, err := e.perTaskWithScripts(ctx, before, int64(len(waits)))
	if err != nil {
		return nil, err
	}
	maps.Copy(out, percentiles(waits))
	return out, nil
}

// drainQueues measures how fast a session takes one run from each of n queues. It
// also has capacity for cpu runs, of which there are none.
func drainQueues(n, cpu int) func(context.Context, *environment) (sample, error) {
	return func(ctx context.Context, e *environment) (sample, error) {
		b, closer, err := taskgenSystem{}.connect(ctx, e.server.addr)
		if err != nil {
			return nil, err
		}
		defer closer()
		leaser, ok := b.(broker.Leaser)
		if !ok {
			return nil, fmt.Errorf("use %T: it leases nothing", b)
		}
		queues, err := fillEach(ctx, b, n)
		if err != nil {
			return nil, err
		}
		s, err := leaser.OpenSession(ctx, time.Minute)
		if err != nil {
			return nil, err
		}
		out, err := e.timed(ctx, e.perTaskWithScripts, func() (int64, error) {
			want := broker.Want{Queues: queues, IO: 20, CPU: cpu}
			for left := n; left > 0; {
				taken, err := takeAndFinish(ctx, s, want)
				if err != nil {
					return 0, err
				}
				left -= taken
			}
			return int64(n), nil
		})
		if err != nil {
			return nil, err
		}
		return out, s.Close(ctx)
	}
}

// fillEach queues a run in each of n queues and returns their names.
func fillEach(ctx context.Context, b broker.Broker, n int) ([]string, error) {
	queues := make([]string, n)
	for i := range queues {
		queues[i] = queueName(i)
		run := &broker.TaskRun{ID: fmt.Sprint(i), Task: "noop", Queue: queues[i], QueuedAt: time.Now()}
		if err := b.QueueTasks(ctx, run); err != nil {
			return nil, err
		}
	}
	return queues, nil
}

// takeAndFinish takes runs once, finishes them and returns how many were finished.
func takeAndFinish(ctx context.Context, s broker.Session, want broker.Want) (int, error) {
	runs, err := s.Take(ctx, want)
	if err != nil {
		return 0, err
	}
	outcomes := make([]broker.Outcome, len(runs))
	for i, run := range runs {
		outcomes[i].Run = run
	}
	done, err := s.Finish(ctx, outcomes...)
	return len(runs) - len(done.Fenced), err
}

// perTaskWithScripts is perTask with the number of scripts that the server executed.
func (e *environment) perTaskWithScripts(ctx context.Context, before spending, tasks int64) (sample, error) {
	after, err := e.server.usage(ctx)
	if err != nil {
		return nil, err
	}
	out, err := e.perTask(ctx, before, tasks)
	if err != nil {
		return nil, err
	}
	out[scripts] = (after.scripts - before.server.scripts) / float64(tasks)
	return out, nil
}
