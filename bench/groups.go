package main

import (
	"context"

	"github.com/taskgen/taskgen/bench/tasks"
	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Groups of the scenario with groups.
const (
	groups     = 4
	chainRuns  = 3
	groupsRuns = groups * (broker.MaxGroup*chainRuns + 1)
)

// drainGroups queues groups of chains while nothing consumes, and measures how fast their runs
// are executed from the start of the consumer on.
func drainGroups(ctx context.Context, e *environment) (sample, error) {
	ours := taskgenSystem{}
	b, closer, err := ours.connect(ctx, e.server.addr)
	if err != nil {
		return nil, err
	}
	defer closer()
	client := taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
	for range groups {
		if _, err := groupOfChains().Queue(client); err != nil {
			return nil, err
		}
	}
	var c consumer
	out, err := e.timed(ctx, e.perTask, func() (n int64, err error) {
		if c, err = ours.consume(ctx, e.server.addr, consumeOptions{slots: 64, queues: 1}); err != nil {
			return 0, err
		}
		return groupsRuns, handled(ctx, c, groupsRuns)
	})
	if err != nil {
		return nil, err
	}
	return out, c.stop()
}

// groupOfChains returns a group as large as can be, each member of which is a chain.
func groupOfChains() taskrt.Call[taskrt.None] {
	noop := func(n int) taskrt.Call[taskrt.None] { return tasks.CallCounterNoop(benchID, n) }
	members := make([]taskrt.Call[taskrt.None], broker.MaxGroup)
	for i := range members {
		members[i] = noop(0)
		for n := 1; n < chainRuns; n++ {
			members[i] = taskrt.Then(members[i], taskrt.After[taskrt.None](noop(n)))
		}
	}
	return taskrt.Group(members, taskrt.After[[]taskrt.None](noop(chainRuns)))
}
