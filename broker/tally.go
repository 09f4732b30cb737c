package broker

import (
	"context"
	"fmt"
	"math/bits"
	"time"
)

// Tallies is a broker that counts what becomes of runs, for charts.
type Tallies interface {
	// AddTallies adds to what is stored of the same queue, task and minute. The counts are
	// approximate: those of a consumer that dies are lost, and those of a call that fails may
	// be stored and count twice, as the runtime repeats it. So the runtime makes a call for
	// each queue. AddTallies ignores those that are too old to be stored, and may ignore those
	// of more than a day ahead. It refuses the call if [Tally.Validate] refuses one.
	AddTallies(ctx context.Context, tallies []Tally) error

	// Tallies returns what is stored of the queues and of the minutes that began between two
	// instants, the first of which it includes, sorted by minute, queue and task. Minutes
	// without runs are missing.
	Tallies(ctx context.Context, queues []string, from, to time.Time) ([]Tally, error)
}

// TalliesKept is how long tallies are stored at least.
const TalliesKept = 3 * 24 * time.Hour

// Tally counts the attempts and ends of the runs of one task in one minute.
type Tally struct {
	Queue, Task string
	Minute      time.Time // when it begins, in UTC; an instant within it does as well

	Succeeded int64 // runs
	Retried   int64 // attempts after which another follows
	Dead      int64 // runs that became dead letters
	Dropped   int64 // runs that were cancelled, expired or skipped

	Waits Histogram // of attempts: from when the run was due to the start
	Times Histogram // of attempts: from the start to the end
}

// Validate returns an error if the tally cannot be stored: a name is invalid, the minute is
// outside the range of the stored form, or a count is negative.
func (t *Tally) Validate() error {
	if err := checkName("queue name", t.Queue, MaxName, false); err != nil {
		return err
	}
	if err := checkName("task name", t.Task, MaxName, false); err != nil {
		return err
	}
	if t.Minute.IsZero() {
		return fmt.Errorf("the tally of task %s has no minute", t.Task)
	}
	if err := checkTime("counted", t.Minute); err != nil {
		return err
	}
	least := min(t.Succeeded, t.Retried, t.Dead, t.Dropped)
	for i := range t.Waits {
		least = min(least, t.Waits[i], t.Times[i])
	}
	if least < 0 {
		return fmt.Errorf("the tally of task %s has a count of %d", t.Task, least)
	}
	return nil
}

// Add adds the counts of another tally.
func (t *Tally) Add(other *Tally) {
	t.Succeeded += other.Succeeded
	t.Retried += other.Retried
	t.Dead += other.Dead
	t.Dropped += other.Dropped
	for i := range t.Waits {
		t.Waits[i] += other.Waits[i]
		t.Times[i] += other.Times[i]
	}
}

// Histogram counts durations. Bucket 0 has those up to a millisecond, and each further one
// those up to twice as long; the last has all others, those longer than 2^22 ms, which is
// some 70 minutes.
type Histogram [24]int64

// Bucket returns the index of a duration's bucket.
func (Histogram) Bucket(d time.Duration) int {
	if d <= time.Millisecond {
		return 0
	}
	return min(bits.Len64(uint64((d-1)/time.Millisecond)), len(Histogram{})-1)
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) { h[h.Bucket(d)]++ }

// Count returns how many durations are counted.
func (h *Histogram) Count() (n int64) {
	for _, in := range h {
		n += in
	}
	return n
}

// Quantile returns a duration that the share q, from 0 to 1, of the durations does not
// exceed. It is interpolated within a bucket, and 0 if there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := q * float64(h.Count())
	if rank <= 0 {
		return 0
	}
	var below float64
	for i, in := range h {
		if below+float64(in) < rank || in == 0 {
			below += float64(in)
			continue
		}
		low, high := time.Duration(0), time.Millisecond<<i
		if i > 0 {
			low = time.Millisecond << (i - 1)
		}
		return low + time.Duration((rank-below)/float64(in)*float64(high-low))
	}
	return time.Millisecond << (len(h) - 1)
}
