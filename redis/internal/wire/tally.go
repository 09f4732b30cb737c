package wire

import (
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// A hash has the tallies of one queue and hour: of each task a series of its minutes. A minute is
// its number within the hour, the length of what follows in two bytes, and its counts.

// Tally returns the hash of the tallies of an hour, which is counted from the epoch.
func (q *QueueKeys) Tally(hour int64) string { return q.Base + "tally:" + strconv.FormatInt(hour, 10) }

// HourOf returns the hour of an instant, counted from the epoch.
func HourOf(t time.Time) int64 { return t.Unix() / 3600 }

// TallyEnds returns when the tallies of an hour expire, in milliseconds since the epoch.
func TallyEnds(hour int64) int64 {
	return time.Unix(3600*(hour+1), 0).Add(broker.TalliesKept).UnixMilli()
}

// MinuteOf returns the minute of an instant within its hour.
func MinuteOf(t time.Time) int { return int(t.Unix() / 60 % 60) }

// counts calls f with the counts of a tally, in the order of their numbers from 0 on.
func counts(t *broker.Tally, f func(i int, n *int64)) {
	for i, n := range [...]*int64{&t.Succeeded, &t.Retried, &t.Dead, &t.Dropped} {
		f(i, n)
	}
	for i := range t.Waits {
		f(otherCounts+i, &t.Waits[i])
		f(otherCounts+len(t.Waits)+i, &t.Times[i])
	}
}

const (
	otherCounts = 4 // before the histograms
	tallyCounts = otherCounts + 2*len(broker.Histogram{})
)

// HighestCount is the highest number of a count.
const HighestCount = tallyCounts - 1

// AppendCounts appends the counts of a tally that are not zero: an array of number and count of
// each.
func AppendCounts(b []byte, t *broker.Tally) []byte {
	var all [tallyCounts]int64
	n := 0
	counts(t, func(i int, count *int64) {
		if all[i] = *count; *count != 0 {
			n++
		}
	})
	b = codec.AppendArrayLen(b, 2*n)
	for i, count := range all {
		if count != 0 {
			b = codec.AppendInt(codec.AppendInt(b, int64(i)), count)
		}
	}
	return b
}

// LongestSeries is how many bytes a series has at most.
const LongestSeries = 60 * (3 + 3 + 10*tallyCounts)

// ReadSeries calls f with the tallies of a series. It leaves out a minute that cannot be read, and
// what follows one whose length is wrong.
func ReadSeries(series string, queue, task string, hour int64, f func(*broker.Tally)) {
	if len(series) > LongestSeries {
		return
	}
	for b := []byte(series); len(b) >= 3; {
		minute, size := int64(b[0]), 3+int(binary.BigEndian.Uint16(b[1:]))
		if size > len(b) {
			return
		}
		t := &broker.Tally{Queue: queue, Task: task, Minute: time.Unix(3600*hour+60*minute, 0).UTC()}
		if minute < 60 && readCounts(b[3:size], t) == nil {
			f(t)
		}
		b = b[size:]
	}
}

// readCounts reads what AppendCounts has appended. It skips counts of newer versions.
func readCounts(b []byte, t *broker.Tally) error {
	var all [tallyCounts]int64
	r := codec.NewReader(b)
	n := r.ArrayLen()
	for ; n > 1 && r.More(); n -= 2 {
		i, count := r.Int(), r.Int64()
		if count < 0 {
			r.Fail(errors.New("a count is negative"))
		}
		if i >= 0 && i < len(all) {
			all[i] = count
		}
	}
	if n != 0 {
		r.Fail(errors.New("a count is missing"))
	}
	counts(t, func(i int, count *int64) { *count = all[i] })
	return r.Done()
}
