package metrics

import (
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Watch has the collector show the slots, leases and requests of a consumer of this process
// too, and returns the collector.
func (c *Collector) Watch(consumers ...*taskrt.Consumer) *Collector {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.consumers = append(c.consumers, consumers...)
	return c
}

// WatchScheduler has the collector show the ticks of a scheduler of this process too, and
// returns the collector.
func (c *Collector) WatchScheduler(schedulers ...*taskrt.Scheduler) *Collector {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.schedulers = append(c.schedulers, schedulers...)
	return c
}

// collectWatched shows what the consumers and schedulers of this process did.
func (c *Collector) collectWatched(e emitter) {
	c.mu.Lock()
	consumers, schedulers := slices.Clone(c.consumers), slices.Clone(c.schedulers)
	c.mu.Unlock()
	if len(consumers) > 0 {
		collectConsumers(e, consumers)
	}
	if len(schedulers) > 0 {
		c.collectSchedulers(e, schedulers)
	}
}

func collectConsumers(e emitter, consumers []*taskrt.Consumer) {
	var sum taskrt.ConsumerStats
	kills, operations := make(map[string]int64), make(map[string]taskrt.Durations)
	for _, consumer := range consumers {
		s := consumer.Stats()
		for kind := range s.Slots {
			sum.Slots[kind].Total += s.Slots[kind].Total
			sum.Slots[kind].Busy += s.Slots[kind].Busy
		}
		sum.LeasesLost += s.LeasesLost
		sum.Fenced += s.Fenced
		sum.Recovered += s.Recovered
		for reason, n := range s.Kills {
			kills[reason] += n
		}
		for op, o := range s.Operations {
			operations[op] = added(operations[op], o.Durations)
		}
	}
	for kind, name := range [...]string{broker.IO: "io", broker.CPU: "cpu"} {
		e.gauge(slots, float64(sum.Slots[kind].Total), name)
		e.gauge(slotsBusy, float64(sum.Slots[kind].Busy), name)
	}
	for _, reason := range slices.Sorted(maps.Keys(kills)) {
		e.counter(childKills, uint64(kills[reason]), reason)
	}
	e.counter(leasesLost, uint64(sum.LeasesLost))
	e.counter(fenced, uint64(sum.Fenced))
	e.counter(recovered, uint64(sum.Recovered))
	for _, op := range slices.Sorted(maps.Keys(operations)) {
		e.histogram(requests, proto(operations[op]), op)
	}
}

func (c *Collector) collectSchedulers(e emitter, schedulers []*taskrt.Scheduler) {
	counts := make(map[string]*taskrt.TickStats)
	var lag taskrt.Durations
	for _, scheduler := range schedulers {
		s := scheduler.Stats()
		lag = added(lag, s.Lag)
		for _, t := range s.Ticks {
			name := c.recorder.of(t.Task, t.Queue).task
			if counts[name] == nil {
				counts[name] = new(taskrt.TickStats)
			}
			n := counts[name]
			n.Queued += t.Queued
			n.Claimed += t.Claimed
			n.Overlapped += t.Overlapped
			n.Missed += t.Missed
			n.Failed += t.Failed
		}
	}
	for _, task := range slices.Sorted(maps.Keys(counts)) {
		n := counts[task]
		e.counter(ticks, uint64(n.Queued), task, "queued")
		e.counter(ticks, uint64(n.Claimed), task, "claimed")
		e.counter(ticks, uint64(n.Overlapped), task, "overlapped")
		e.counter(ticks, uint64(n.Missed), task, "missed")
		e.counter(ticks, uint64(n.Failed), task, "failed")
	}
	e.histogram(tickLag, proto(lag))
}

// added returns the durations of both.
func added(a, b taskrt.Durations) taskrt.Durations {
	for i, n := range b.Buckets {
		a.Buckets[i] += n
	}
	a.Sum += b.Sum
	return a
}

// proto returns durations as Prometheus reads them.
func proto(d taskrt.Durations) *dto.Histogram {
	out := &dto.Histogram{SampleSum: new(d.Sum.Seconds()), SampleCount: new(uint64(d.Count()))}
	var count uint64
	for i, n := range d.Buckets {
		count += uint64(n)
		if bound := taskrt.DurationBound(i); bound > 0 {
			out.Bucket = append(out.Bucket, &dto.Bucket{CumulativeCount: new(count), UpperBound: new(bound.Seconds())})
		}
	}
	return out
}
