package web

import (
	"context"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/live"
)

// ranges are the times that charts show, by the value of "range".
var ranges = []struct {
	name, title string
	long        time.Duration
}{
	{"", "1 hour", time.Hour},
	{"6h", "6 hours", 6 * time.Hour},
	{"24h", "24 hours", 24 * time.Hour},
	{"3d", "3 days", 72 * time.Hour},
}

// mostSeries is how many hours of queues a page reads for its charts: an hour of a queue is
// some hundred bytes a task.
const mostSeries = 800

// historyView is the charts of a page.
type historyView struct {
	Ranges []sortLink
	Charts []*chart
	Long   string // a longer time is left out, and why
	Err    string // they cannot be read
	Quiet  bool   // nothing happened
	Lately *lately
}

// lately is what happened in the last minutes of a history.
type lately struct {
	Minutes                 int
	Succeeded, Failed, Dead int64
}

// historyKey names tallies that pages share.
type historyKey struct {
	queue string // empty: all
	long  time.Duration
}

// history is the tallies of a time.
type history struct {
	tallies []broker.Tally
	from    time.Time
	step    time.Duration
}

// newHistories returns the tallies that pages share.
func newHistories(cfg Config) *live.Keyed[historyKey, *history] {
	return live.NewKeyed(64, func(key historyKey) *live.Shared[*history] {
		step := key.long / columns
		age := min(max(step/6, 5*time.Second), 2*time.Minute) // longer ones change slowly, and cost more
		return live.NewShared(age, lookTimeout, func(ctx context.Context) (*history, error) {
			end := time.Now().UTC().Truncate(step).Add(step)
			h := &history{from: end.Add(-key.long), step: step}
			var queues []string
			if key.queue != "" {
				queues = []string{key.queue}
			}
			var err error
			h.tallies, err = cfg.Inspector.Tallies(ctx, h.from, end, queues...)
			return h, err
		})
	})
}

// history returns the charts of a queue, or of all if it is empty, of which there are so
// many, and of the tallies that are wanted; nil wants all.
func (r *request) history(ctx context.Context, queue string, queues int, wanted func(*broker.Tally) bool) *historyView {
	v := new(historyView)
	chosen := ranges[0]
	for _, of := range ranges {
		if max(queues, 1)*(int(of.long/time.Hour)+2) > mostSeries {
			v.Long = "Longer times are shown for one queue at a time, as there are so many."
			continue
		}
		current := r.get("range") == of.name
		if current {
			chosen = of
		}
		v.Ranges = append(v.Ranges, sortLink{of.title, r.with("range", of.name), current})
	}
	if !slices.ContainsFunc(v.Ranges, func(l sortLink) bool { return l.Current }) && len(v.Ranges) > 0 {
		v.Ranges[0].Current = true
	}
	seen := r.site.looks.histories.Get(ctx, historyKey{queue, chosen.long})
	h := seen.Value
	if seen.Err != nil {
		v.Err = seen.Err.Error()
	}
	if h == nil {
		return v
	}
	b := bucket(h.tallies, h.from, h.step, wanted)
	v.Charts, v.Quiet = b.charts(), attempts(&b.sum)+b.sum.Dropped == 0
	if chosen.long == time.Hour {
		v.Lately = &lately{Minutes: 15}
		for i := columns - 15; i < columns; i++ {
			t := &b.cells[i]
			v.Lately.Succeeded += t.Succeeded
			v.Lately.Failed += failed(t)
			v.Lately.Dead += t.Dead
		}
	}
	return v
}
