package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// tallyPage is how many tallies one command adds: each costs the server 10 to 40 µs, and if all its counts are huge up to 130 µs.
	tallyPage = 25
	// seriesPage is how many series of an hour, of up to some kilobytes, one pipeline reads. It
	// is also how many one command reads of a queue with more tasks.
	seriesPage = 500
	// tallyAhead is how far ahead the clock of a consumer can be whose tallies are stored and found.
	tallyAhead = 24 * time.Hour
	// seriesKeys is how many hours of queues one script looks at: it takes a microsecond for one
	// without tallies.
	seriesKeys = 1000
)

// AddTallies adds tallies, as [broker.Tallies] says. It sends one command for each queue, hour
// and 25 tallies. If some cannot be stored, it returns an error, and the others are stored.
func (b *Broker) AddTallies(ctx context.Context, tallies []broker.Tally) error {
	for i := range tallies {
		if err := tallies[i].Validate(); err != nil {
			return fmt.Errorf("add tallies: %w", err)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("add tallies: %w", err)
	}
	byQueue := map[string][]*broker.Tally{}
	for i := range tallies {
		byQueue[tallies[i].Queue] = append(byQueue[tallies[i].Queue], &tallies[i])
	}
	names := make([]string, 0, len(byQueue))
	for name := range byQueue {
		names = append(names, name)
	}
	queues, err := b.queuesNamed(names)
	if err != nil {
		return fmt.Errorf("add tallies: %w", err)
	}
	var failed failures
	for i, err := range b.eachQueue(ctx, queues, func(_ int, q *queue) error { return b.addTallies(ctx, q, byQueue[q.Name]) }) {
		failed.note(queues[i], err)
	}
	return failed.join(ctx, b, "add tallies")
}

// addTallies adds tallies of one queue.
func (b *Broker) addTallies(ctx context.Context, q *queue, tallies []*broker.Tally) error {
	byHour := map[int64][]*broker.Tally{}
	for _, t := range tallies {
		byHour[wire.HourOf(t.Minute)] = append(byHour[wire.HourOf(t.Minute)], t)
	}
	const longest = broker.TalliesKept + tallyAhead + 2*time.Hour
	for hour, all := range byHour {
		for some := range slices.Chunk(all, tallyPage) {
			args := (&script.TallyArgs{Ends: wire.TallyEnds(hour), Longest: longest.Milliseconds(), Highest: wire.HighestCount}).Append(nil)
			for _, t := range some {
				args = append(args, t.Task, wire.MinuteOf(t.Minute), wire.AppendCounts(nil, t))
			}
			if _, err := b.repeat(ctx, b.scripts.Tally, b.clients.Work, []string{q.Tally(hour)}, args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// Tallies returns tallies, as [broker.Tallies] says. On a server one command reads up to 1,000 hours
// of queues and 500 series of tasks, on a cluster two commands read an hour of a queue.
func (b *Broker) Tallies(ctx context.Context, queues []string, from, to time.Time) ([]broker.Tally, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	queues = slices.Compact(slices.Sorted(slices.Values(queues)))
	for _, name := range queues {
		if err := checkQueue(name); err != nil {
			return nil, fmt.Errorf("read tallies: %w", err)
		}
	}
	hours := tallyHours(queues, b.cfg.Prefix, from, to)
	var all []broker.Tally
	add := func(h *tallyHour, task, series string) {
		wire.ReadSeries(series, h.queue, task, h.hour, func(t *broker.Tally) {
			if !t.Minute.Before(from) && t.Minute.Before(to) {
				all = append(all, *t)
			}
		})
	}
	read := b.readTogether
	if b.clients.Cluster {
		read = b.readApart
	}
	if err := read(ctx, hours, add); err != nil {
		return nil, b.fail(ctx, "read tallies", err)
	}
	slices.SortFunc(all, func(a, b broker.Tally) int {
		return cmp.Or(a.Minute.Compare(b.Minute), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Task, b.Task))
	})
	return all, nil
}

// tallyHour is the tallies of a queue and an hour.
type tallyHour struct {
	queue, key string
	hour       int64
	tasks      int64
}

// tallyHours returns the hours of queues in which there can be tallies of a time.
func tallyHours(queues []string, prefix string, from, to time.Time) (hours []*tallyHour) {
	now := time.Now()
	if oldest := now.Add(-broker.TalliesKept - 2*time.Hour); from.Before(oldest) {
		from = oldest
	}
	if newest := now.Add(tallyAhead); to.After(newest) {
		to = newest
	}
	for _, name := range queues {
		keys := wire.NewQueueKeys(prefix, name)
		for hour := wire.HourOf(from); from.Before(to) && hour <= wire.HourOf(to); hour++ {
			hours = append(hours, &tallyHour{queue: name, key: keys.Tally(hour), hour: hour})
		}
	}
	return hours
}

// addSeries is called with each series that was read.
type addSeries func(h *tallyHour, task, series string)

// readTogether reads the series of hours by few commands, as the keys of a server can be named in one.
func (b *Broker) readTogether(ctx context.Context, hours []*tallyHour, add addSeries) error {
	for len(hours) > 0 {
		page := hours[:min(len(hours), seriesKeys)]
		keys := make([]string, len(page))
		for i, h := range page {
			keys[i] = h.key
		}
		v, err := b.repeat(ctx, b.scripts.Tallies, b.clients.Work, keys, (&script.TalliesArgs{Room: seriesPage}).Append(nil)...)
		if err != nil {
			return err
		}
		found, err := script.ParseTallies(v, len(page))
		if err != nil {
			return err
		}
		var left []*tallyHour // for the next command; never the first of those that it can read
		for i, h := range page {
			switch r := &found[i]; {
			case r.Odd || r.TooMany > seriesPage:
				if err := b.readApart(ctx, []*tallyHour{h}, add); err != nil {
					return err
				}
			case r.TooMany > 0:
				left = append(left, h)
			default:
				for pair := range slices.Chunk(r.Series, 2) {
					add(h, pair[0], pair[1])
				}
			}
		}
		hours = append(left, hours[len(page):]...)
	}
	return nil
}

// readApart reads the series of hours by pipelines, of which each has at most some megabytes.
func (b *Broker) readApart(ctx context.Context, hours []*tallyHour, add addSeries) error {
	if err := b.measureTallies(ctx, hours); err != nil {
		return err
	}
	return b.readTallies(ctx, hours, add)
}

// measureTallies reads how many tasks have tallies in each hour.
func (b *Broker) measureTallies(ctx context.Context, hours []*tallyHour) error {
	for page := range slices.Chunk(hours, surveyPage) {
		counts := make([]conn.Reply[int64], len(page))
		err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
			for i, h := range page {
				counts[i] = pipe.HLen(ctx, h.key)
			}
		})
		if err != nil {
			return err
		}
		for i, h := range page {
			if err := counts[i].Err(); err != nil {
				return b.blame(ctx, err, h.key)
			}
			h.tasks = counts[i].Val()
		}
	}
	return nil
}

// readTallies calls add with each series.
func (b *Broker) readTallies(ctx context.Context, hours []*tallyHour, add addSeries) error {
	var page []*tallyHour
	sum := int64(0)
	for _, h := range hours {
		switch {
		case h.tasks == 0:
			continue
		case h.tasks > seriesPage:
			if err := b.scanTallies(ctx, h, add); err != nil {
				return err
			}
			continue
		case sum+h.tasks > seriesPage:
			if err := b.readTallyPage(ctx, page, add); err != nil {
				return err
			}
			page, sum = nil, 0
		}
		page, sum = append(page, h), sum+h.tasks
	}
	return b.readTallyPage(ctx, page, add)
}

// readTallyPage reads the series of some hours at once.
func (b *Broker) readTallyPage(ctx context.Context, page []*tallyHour, add addSeries) error {
	replies := make([]conn.Reply[map[string]string], len(page))
	err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for i, h := range page {
			replies[i] = pipe.HGetAll(ctx, h.key)
		}
	})
	if err != nil {
		return err
	}
	for i, h := range page {
		if err := replies[i].Err(); err != nil {
			return b.blame(ctx, err, h.key)
		}
		for task, series := range replies[i].Val() {
			add(h, task, series)
		}
	}
	return nil
}

// scanTallies reads the series of an hour with many tasks.
func (b *Broker) scanTallies(ctx context.Context, h *tallyHour, add addSeries) error {
	seen := map[string]bool{} // a page may have what another had
	for cursor := uint64(0); ; {
		var page conn.Page
		err := b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
			page, err = b.clients.Work.HScan(ctx, h.key, cursor, seriesPage)
			return err
		})
		if err != nil {
			return b.blame(ctx, err, h.key)
		}
		for pair := range slices.Chunk(page.Entries, 2) {
			if !seen[pair[0]] {
				seen[pair[0]] = true
				add(h, pair[0], pair[1])
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return nil
		}
		if len(seen) > maxTallied {
			return errors.New("more tasks than a queue can have: delete " + h.key)
		}
	}
}

// maxTallied is how many tasks of a queue and an hour are read at most.
const maxTallied = 100_000
