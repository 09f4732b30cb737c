// Package fleet reads the queues and instances of a broker, at most once a second however
// many ask, for those who watch: metrics, probes and autoscalers.
package fleet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
)

const (
	timeout = 3 * time.Second // of reading the broker
	maxAge  = time.Second     // what was read is returned for so long
)

// Fleet is what a broker knew of its queues and instances at one time.
type Fleet struct {
	Queues    []*broker.QueueInfo // sorted by name
	Counted   bool                // the broker only counts the runs of a queue that wait, as Queued
	Instances []*broker.Instance  // nil: the broker has no [broker.Instances]
	Time      time.Time           // of the broker, when it was read
	Err       error               // of what could not be read; the rest is there
	Unread    []string            // queues that could not be read, or not in full; nil: with Err, that is unknown

	read time.Time
}

// Knows reports whether a queue was read in full, although others may not have been.
func (f *Fleet) Knows(queue string) bool {
	return f.Err == nil || f.Unread != nil && !slices.Contains(f.Unread, queue)
}

// Replied reports whether the broker replied in time, although some queues may not have been
// read.
func (f *Fleet) Replied() bool {
	return f.Err == nil || f.Unread != nil && !errors.Is(f.Err, context.DeadlineExceeded)
}

// Reader reads the fleet of a broker. Its method may be called concurrently.
type Reader struct {
	broker broker.Broker
	queues []string // those of the program's tasks

	mu   sync.Mutex
	last *Fleet
}

// NewReader returns a reader that knows these queues beside those that the broker does.
func NewReader(b broker.Broker, queues ...string) *Reader {
	return &Reader{broker: b, queues: queues}
}

// Read returns the fleet as it was less than a second ago. It blocks until the broker has
// replied, at most for three seconds. What it returns is shared: do not change it.
func (r *Reader) Read(ctx context.Context) *Fleet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil && time.Since(r.last.read) < maxAge {
		return r.last
	}
	if err := ctx.Err(); err != nil {
		return &Fleet{Err: err}
	}
	// It does not end with ctx: others wait for what is read.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	f := &Fleet{Time: time.Now()}
	f.Err = r.fill(ctx, f)
	f.read = time.Now()
	r.last = f
	return f
}

func (r *Reader) fill(ctx context.Context, f *Fleet) error {
	if clock, ok := r.broker.(broker.Clock); ok {
		now, err := clock.Now(ctx)
		if err != nil {
			return fmt.Errorf("read the broker's clock: %w", err)
		}
		f.Time = now
	}
	if known, ok := r.broker.(broker.Instances); ok {
		instances, err := known.Instances(ctx)
		if err != nil {
			return fmt.Errorf("list instances: %w", err)
		}
		f.Instances = append([]*broker.Instance{}, instances...)
	}
	controls, ok := r.broker.(broker.Controls)
	if !ok {
		f.Counted = true
		return r.count(ctx, f)
	}
	names, err := Names(ctx, r.broker)
	if names == nil && err != nil {
		return fmt.Errorf("list queues: %w", err)
	}
	names = append(names, r.queues...)
	slices.Sort(names)
	names = slices.Compact(names)
	unread := f.describe(ctx, controls, names)
	if err != nil {
		f.Unread = nil
	}
	return errors.Join(err, unread)
}

// Names returns the names of the queues that a broker knows. Beside an error it returns those
// that can be read, nil if none can.
func Names(ctx context.Context, b broker.Broker) (names []string, err error) {
	if namer, ok := b.(maintenance.Namer); ok {
		names, err = namer.QueueNames(ctx)
	} else {
		var lengths map[string]int64
		if lengths, err = b.QueueLength(ctx); lengths != nil {
			names = slices.AppendSeq([]string{}, maps.Keys(lengths))
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return CheckName(name) != nil }), err
}

// CheckName refuses a name that no queue can have.
func CheckName(queue string) error {
	return (&broker.TaskRun{ID: "-", Task: "-", Queue: queue}).Validate()
}

// count describes the queues of a broker without [broker.Controls].
func (r *Reader) count(ctx context.Context, f *Fleet) error {
	lengths, err := r.broker.QueueLength(ctx)
	if lengths == nil && err != nil {
		return fmt.Errorf("count runs: %w", err)
	}
	names := slices.AppendSeq(slices.Clone(r.queues), maps.Keys(lengths))
	slices.Sort(names)
	for _, queue := range slices.Compact(names) {
		f.Queues = append(f.Queues, &broker.QueueInfo{Queue: queue, Queued: lengths[queue]})
	}
	return err
}

// describe describes the queues, as far as they can be read.
func (f *Fleet) describe(ctx context.Context, controls broker.Controls, names []string) error {
	infos := make([]*broker.QueueInfo, len(names))
	var errs []error
	var unread []string
	note := func(i int, err error) {
		if err != nil {
			errs, unread = append(errs, err), append(unread, names[i])
		}
	}
	var apart []int
	var cut error // the survey did not end
	if s, ok := controls.(maintenance.Surveyor); ok {
		cut = s.SurveyQueues(ctx, names, func(p maintenance.Part[*broker.QueueInfo]) {
			infos[p.Queue] = p.Found
			note(p.Queue, p.Err)
			if p.Apart {
				apart = append(apart, p.Queue)
			}
		})
	} else {
		for i := range names {
			apart = append(apart, i)
		}
	}
	failed := make([]error, len(apart))
	Each(len(apart), func(n int) {
		infos[apart[n]], failed[n] = controls.Queue(ctx, names[apart[n]])
	})
	for n, i := range apart {
		note(i, failed[n])
	}
	f.Queues = slices.DeleteFunc(infos, func(info *broker.QueueInfo) bool { return info == nil })
	if cut == nil {
		f.Unread = unread
	}
	return errors.Join(append(errs, cut)...)
}

// AtOnce is how many queues are read at a time that cannot be read together.
const AtOnce = 16

// Each calls f for each number below n, 16 at a time, and returns once all have returned. It is
// for queues that cannot be read together.
func Each(n int, f func(i int)) {
	var all sync.WaitGroup
	room := make(chan struct{}, AtOnce)
	for i := range n {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			f(i)
		})
	}
	all.Wait()
}

// Oldest returns how long the run of a queue is due that waits the longest, 0 if none waits.
func (f *Fleet) Oldest(info *broker.QueueInfo) time.Duration {
	if info.Oldest.IsZero() {
		return 0
	}
	return max(f.Time.Sub(info.Oldest), 0)
}

// ShownBy returns the instance whose process shows the fleet: of those that announced themselves
// lately, the one whose metrics have been read regularly for the longest. It returns nil if
// nobody reads the metrics of any.
func (f *Fleet) ShownBy() *broker.Instance {
	var first *broker.Instance
	for _, i := range f.Instances {
		if i.Scraped.IsZero() || f.Time.Sub(i.Seen) > broker.InstanceKept*2/3 {
			continue
		}
		if first == nil || i.Scraped.Before(first.Scraped) || i.Scraped.Equal(first.Scraped) && i.ID < first.ID {
			first = i
		}
	}
	return first
}
