package inspect

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

// LastTicks returns the last ticks of tasks by queue and task, the zero time of one that has
// none. tasks are by queue. It has nothing of those that could not be read, and asks queues too
// of which another part could not be. The broker has to be a [broker.Ticks].
func (l *Look) LastTicks(ctx context.Context, tasks map[string][]string) (map[string]map[string]time.Time, error) {
	again := &Look{Queues: slices.Sorted(maps.Keys(tasks)), fleet: l.fleet}
	found, err := together(ctx, again, again.Queues, func(s maintenance.TickSurveyor, queues []string, part func(maintenance.Part[map[string]time.Time])) error {
		return s.SurveyLastTicks(ctx, queues, tasks, part)
	}, func(queue string) (map[string]time.Time, error) { return l.lastTicksOf(ctx, queue, tasks[queue]) })
	if err != nil {
		return nil, err
	}
	for _, s := range again.Skipped() {
		l.skip(s.Queue, s.Err)
	}
	ticks := make(map[string]map[string]time.Time, len(found))
	for i, queue := range again.Queues {
		ticks[queue] = found[i]
	}
	return ticks, nil
}

// lastTicksOf returns the last ticks of tasks of one queue. Beside an error it returns those that
// it could read.
func (l *Look) lastTicksOf(ctx context.Context, queue string, tasks []string) (map[string]time.Time, error) {
	ticks := make(map[string]time.Time, len(tasks))
	var failed error
	for _, task := range tasks {
		last, err := l.fleet.Broker.(broker.Ticks).LastTick(ctx, queue, task)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			ticks[task] = last
		}
		failed = cmp.Or(failed, err)
	}
	return ticks, failed
}
