package memory

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// tallies are those of all queues, by queue and task.
type tallies struct {
	of    map[tallied]*series
	swept int64 // the minute in which what is too old was dropped last
}

type tallied struct{ queue, task string }

// series is the tallies of one task, the earliest first. They are packed, as most of their
// counts are zero and there are thousands of them.
type series struct {
	minutes []int64 // since the epoch
	packed  [][]byte
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// AddTallies adds to the tallies, as [broker.Tallies] says, all or none. It ignores those that
// are older than [broker.TalliesKept].
func (b *Broker) AddTallies(ctx context.Context, more []broker.Tally) error {
	for i := range more {
		if err := more[i].Validate(); err != nil {
			return fmt.Errorf("add tallies: %w", err)
		}
	}
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("add tallies: %w", err)
	}
	defer b.mu.Unlock()
	oldest := minuteOf(b.time().Add(-broker.TalliesKept))
	b.tallies.sweep(oldest)
	for i := range more {
		if minuteOf(more[i].Minute) >= oldest {
			b.tallies.add(&more[i])
		}
	}
	return nil
}

// sweep drops what is older than a minute, once in each.
func (t *tallies) sweep(oldest int64) {
	if t.swept == oldest {
		return
	}
	t.swept = oldest
	for of, s := range t.of {
		n, _ := slices.BinarySearch(s.minutes, oldest)
		s.minutes, s.packed = slices.Delete(s.minutes, 0, n), slices.Delete(s.packed, 0, n)
		if len(s.minutes) == 0 {
			delete(t.of, of)
		}
	}
}

func (t *tallies) add(more *broker.Tally) {
	if t.of == nil {
		t.of = make(map[tallied]*series)
	}
	of := tallied{more.Queue, more.Task}
	s := t.of[of]
	if s == nil {
		s = new(series)
		t.of[of] = s
	}
	minute := minuteOf(more.Minute)
	i, found := slices.BinarySearch(s.minutes, minute)
	if !found {
		s.minutes, s.packed = slices.Insert(s.minutes, i, minute), slices.Insert(s.packed, i, pack(more))
		return
	}
	sum := unpack(s.packed[i])
	sum.Add(more)
	s.packed[i] = pack(&sum)
}

// countsOf returns pointers to all counts of a tally.
func countsOf(t *broker.Tally) []*int64 {
	counts := []*int64{&t.Succeeded, &t.Retried, &t.Dead, &t.Dropped}
	for i := range t.Waits {
		counts = append(counts, &t.Waits[i], &t.Times[i])
	}
	return counts
}

// pack returns the counts of a tally, without the zeros at the end.
func pack(t *broker.Tally) []byte {
	b := make([]byte, 0, 64)
	end := 0
	for _, n := range countsOf(t) {
		if b = binary.AppendUvarint(b, uint64(*n)); *n != 0 {
			end = len(b)
		}
	}
	return slices.Clone(b[:end])
}

func unpack(b []byte) (t broker.Tally) {
	for _, n := range countsOf(&t) {
		v, size := binary.Uvarint(b)
		*n, b = int64(v), b[size:]
	}
	return t
}

// Tallies returns tallies, as [broker.Tallies] says.
func (b *Broker) Tallies(ctx context.Context, queues []string, from, to time.Time) ([]broker.Tally, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	defer b.mu.Unlock()
	var list []broker.Tally
	for of, s := range b.tallies.of {
		if !slices.Contains(queues, of.queue) {
			continue
		}
		for i, minute := range s.minutes {
			if at := time.Unix(60*minute, 0).UTC(); !at.Before(from) && at.Before(to) {
				t := unpack(s.packed[i])
				t.Queue, t.Task, t.Minute = of.queue, of.task, at
				list = append(list, t)
			}
		}
	}
	slices.SortFunc(list, func(a, b broker.Tally) int {
		return cmp.Or(a.Minute.Compare(b.Minute), cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Task, b.Task))
	})
	return list, nil
}
