package brokertest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var tallyChecks = []check{
	{"tallies of the same queue, task and minute are added up", talliesAdded},
	{"tallies are found by queue and time, in order", talliesFound},
	{"a tally that cannot be stored is refused with those beside it", talliesRefused},
	{"odd names of tallies are kept apart", talliesOddNames},
	{"tallies that many add at once are all counted", talliesRace},
	{"tallies are kept for three days", talliesKept},
}

func (f *fixture) addTallies(tallies ...broker.Tally) {
	f.Helper()
	require.NoError(f, f.b.(broker.Tallies).AddTallies(f.ctx(), tallies), "AddTallies")
}

func (f *fixture) tallies(from, to time.Time, queues ...string) []broker.Tally {
	f.Helper()
	list, err := f.b.(broker.Tallies).Tallies(f.ctx(), queues, from, to)
	require.NoError(f, err, "Tallies")
	return list
}

// someTally returns a tally of a minute, with counts that depend on n.
func someTally(queue, task string, minute time.Time, n int64) broker.Tally {
	t := broker.Tally{Queue: queue, Task: task, Minute: minute, Succeeded: n, Retried: 2 * n, Dead: 3 * n, Dropped: 4 * n}
	for i := range t.Waits {
		t.Waits[i], t.Times[i] = n*int64(i), n*int64(i*i)
	}
	return t
}

// thisMinute is some minutes ago, so that none ends while a check goes on.
func thisMinute() time.Time { return time.Now().UTC().Truncate(time.Minute).Add(-10 * time.Minute) }

func talliesAdded(f *fixture) {
	m := thisMinute()
	require.Empty(f, f.tallies(m, m.Add(time.Hour), "q"), "tallies before there are any")
	f.addTallies()
	want := someTally("q", "t", m, 3)
	f.addTallies(want)
	require.Equal(f, []broker.Tally{want}, f.tallies(m, m.Add(time.Minute), "q"), "a tally")
	within := someTally("q", "t", m.Add(59*time.Second), 1<<40)
	f.addTallies(someTally("q", "t", m, 4), within)
	sum := someTally("q", "t", m, 7+1<<40)
	require.Equal(f, []broker.Tally{sum}, f.tallies(m, m.Add(time.Minute), "q"), "the sum of three")
	few := broker.Tally{Queue: "q", Task: "few", Minute: m, Retried: 1}
	few.Times.Observe(3 * time.Millisecond)
	f.addTallies(few)
	require.Equal(f, []broker.Tally{few, sum}, f.tallies(m, m.Add(time.Minute), "q"), "tallies of two tasks")
}

func talliesFound(f *fixture) {
	m := thisMinute()
	var want []broker.Tally
	for i := range 4 {
		for _, queue := range []string{"a", "b", "c"} {
			for _, task := range []string{"s", "t"} {
				want = append(want, someTally(queue, task, m.Add(time.Duration(i)*time.Minute), int64(1+i)))
			}
		}
	}
	for i := range want { // in another order
		f.addTallies(want[(i*11)%len(want)])
	}
	require.Equal(f, want, f.tallies(m, m.Add(time.Hour), "c", "a", "b"), "all tallies")
	require.Equal(f, want[6:18], f.tallies(m.Add(time.Minute), m.Add(3*time.Minute), "a", "b", "c"), "those of two minutes")
	require.Equal(f, want[6:12], f.tallies(m.Add(time.Second), m.Add(time.Minute+time.Second), "a", "b", "c"), "those of minutes that began within a time")
	require.Equal(f, want[2:4], f.tallies(m, m.Add(time.Minute), "b", "unused"), "those of one queue")
	require.Empty(f, f.tallies(m, m, "a"), "those of no time")
	require.Empty(f, f.tallies(m.Add(time.Hour), m, "a"), "those of a time that ends before it begins")
	require.Empty(f, f.tallies(m, m.Add(time.Hour), "unused"), "those of a queue never used")
}

func talliesRefused(f *fixture) {
	m := thisMinute()
	good := someTally("q", "t", m, 1)
	for what, edit := range map[string]func(*broker.Tally){
		"without queue":            func(t *broker.Tally) { t.Queue = "" },
		"without task":             func(t *broker.Tally) { t.Task = "" },
		"of a queue with newline":  func(t *broker.Tally) { t.Queue = "a\nb" },
		"of a task with NUL":       func(t *broker.Tally) { t.Task = "a\x00b" },
		"of a task with space":     func(t *broker.Tally) { t.Task = "a b" },
		"of a long task":           func(t *broker.Tally) { t.Task = strings.Repeat("t", broker.MaxName+1) },
		"without minute":           func(t *broker.Tally) { t.Minute = time.Time{} },
		"of the year 9999":         func(t *broker.Tally) { t.Minute = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
		"with a count less than 0": func(t *broker.Tally) { t.Dropped = -1 },
		"with a bucket under 0":    func(t *broker.Tally) { t.Times[3] = -1 },
	} {
		bad := good
		edit(&bad)
		require.Error(f, f.b.(broker.Tallies).AddTallies(f.ctx(), []broker.Tally{good, bad}), "AddTallies of one %s", what)
	}
	require.Empty(f, f.tallies(m, m.Add(time.Minute), "q"), "tallies stored by calls that were refused")
	require.ErrorIs(f, f.b.(broker.Tallies).AddTallies(f.ended(), []broker.Tally{good}), context.Canceled, "AddTallies with an ended context")
	_, err := f.b.(broker.Tallies).Tallies(f.ended(), []string{"q"}, m, m.Add(time.Minute))
	require.ErrorIs(f, err, context.Canceled, "Tallies with an ended context")
}

func talliesOddNames(f *fixture) {
	m := thisMinute()
	names := []string{"a", "A", "{a}", "a}", "{", ":", "a:b", "a:b:c", "*", "%7B", "%", "\\", "\"", "'", "$", "-", "0", strings.Repeat("n", broker.MaxName)}
	var all []broker.Tally
	for i, queue := range names {
		for j, task := range names {
			all = append(all, someTally(queue, task, m, int64(1+i*len(names)+j)))
		}
	}
	f.addTallies(all...)
	got := f.tallies(m, m.Add(time.Minute), names...)
	require.ElementsMatch(f, all, got, "tallies of odd names")
	one := f.tallies(m, m.Add(time.Minute), "a:b")
	require.Len(f, one, len(names), "tallies of one of the queues")
}

func talliesRace(f *fixture) {
	const workers, calls, tasks = 10, 10, 5
	m := thisMinute()
	f.each(workers, func(int) error {
		for range calls {
			var more []broker.Tally
			for t := range tasks {
				more = append(more, someTally("q", fmt.Sprint("task-", t), m, 1))
			}
			if err := f.b.(broker.Tallies).AddTallies(f.ctx(), more); err != nil {
				return err
			}
		}
		return nil
	})
	var want []broker.Tally
	for t := range tasks {
		want = append(want, someTally("q", fmt.Sprint("task-", t), m, workers*calls))
	}
	require.Equal(f, want, f.tallies(m, m.Add(time.Minute), "q"), "tallies of all workers")
}

func talliesKept(f *fixture) {
	now := time.Now().UTC().Truncate(time.Minute)
	old := now.Add(-broker.TalliesKept + 5*time.Minute)
	f.addTallies(someTally("q", "t", old, 1), someTally("q", "t", now, 2))
	f.addTallies(someTally("q", "t", now.Add(-30*24*time.Hour), 3))
	got := f.tallies(old.Add(-time.Hour), now.Add(time.Hour), "q")
	require.Equal(f, []broker.Tally{someTally("q", "t", old, 1), someTally("q", "t", now, 2)}, got, "tallies of three days")
}
