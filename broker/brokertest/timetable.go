package brokertest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func timetableChecks() []check {
	return []check{
		{"a schedule is read as it was put", entryRead},
		{"a schedule put again is changed, and begins anew only with another rule", entryChanged},
		{"schedules of queues are apart, and all can be asked for", entryQueues},
		{"a schedule's id is not another task's", entryOfAnother},
		{"a deleted schedule is gone, with its ticks", entryDeleted},
		{"changes are told by a number for each queue", entryChanges},
		{"a schedule's tick is claimed once among many schedulers", entryTickOnce},
		{"no tick of a schedule is queued that was changed or deleted since", entryTickStale},
		{"a schedule that cannot be stored is refused", entryRefused},
		{"many schedules are all read", entryMany},
	}
}

func (f *fixture) timetable() broker.Timetable { return f.b.(broker.Timetable) }

// newEntry makes a schedule that is not yet stored.
func (f *fixture) newEntry(queue, id, spec string, edits ...func(*broker.TaskRun)) *broker.Entry {
	run := f.newRun(queue, edits...)
	run.ID = id
	return &broker.Entry{ID: id, Spec: spec, Run: run}
}

func (f *fixture) put(e *broker.Entry) *broker.Entry {
	f.Helper()
	require.NoError(f, f.timetable().PutEntry(f.ctx(), e), "PutEntry of %s", e.ID)
	return e
}

func (f *fixture) entries(queues ...string) []*broker.Entry {
	f.Helper()
	list, err := f.timetable().Entries(f.ctx(), queues...)
	require.NoError(f, err, "Entries of %v", queues)
	return list
}

// queueEntry queues the tick of an entry at an instant.
func (f *fixture) queueEntry(e *broker.Entry, tick time.Time) error {
	run := *e.Run
	run.ID = fmt.Sprintf("%s@%d", e.ID, tick.UnixNano())
	return f.timetable().QueueEntry(f.ctx(), e, &run, tick)
}

func entryRead(f *fixture) {
	start := time.Now()
	e := f.newEntry("q", "report-42", "0 9 * * 1", keep(time.Hour), priority(broker.High), kind(broker.CPU))
	e.Zone, e.Run.Payload = "Europe/Rome", []byte("\x81\xa1a\x01")
	f.put(e)
	list := f.entries("q")
	require.Len(f, list, 1, "Entries")
	got := list[0]
	require.Equal(f, []string{"report-42", "0 9 * * 1", "Europe/Rome"}, []string{got.ID, got.Spec, got.Zone})
	want := *e.Run
	f.requireSame(&want, got.Run, "the run of a schedule")
	require.WithinDuration(f, start, got.Since, prompt, "Since")
	require.True(f, got.Last.IsZero(), "Last before any tick: got %v", got.Last)
	require.Equal(f, e.Revision, got.Revision, "Revision as PutEntry set it")
	require.True(f, e.Since.Equal(got.Since), "Since as PutEntry set it: %v, %v", e.Since, got.Since)

	tick := got.Since.Add(time.Hour)
	require.NoError(f, f.queueEntry(got, tick), "QueueEntry")
	require.True(f, tick.Equal(f.entries("q")[0].Last), "Last after a tick")
	require.Equal(f, 1, f.length("q"), "runs queued")
}

func entryChanged(f *fixture) {
	first := f.put(f.newEntry("q", "e", "@daily"))
	tick := first.Since.Add(time.Hour)
	require.NoError(f, f.queueEntry(first, tick), "QueueEntry")
	f.pass(20 * time.Millisecond)
	again := f.newEntry("q", "e", "@daily")
	again.Run.Payload = []byte("\x81\xa1b\x02")
	f.put(again)
	require.NotEqual(f, first.Revision, again.Revision, "the Revision of one put again")
	require.True(f, first.Since.Equal(again.Since), "Since of one with the same rule: %v, %v", first.Since, again.Since)
	f.pass(20 * time.Millisecond)
	other := f.put(f.newEntry("q", "e", "@weekly"))
	require.True(f, other.Since.After(first.Since), "Since of one with another rule: %v, %v", first.Since, other.Since)
	f.pass(20 * time.Millisecond)
	zoned := f.newEntry("q", "e", "@weekly")
	zoned.Zone = "Europe/Rome"
	require.True(f, f.put(zoned).Since.After(other.Since), "Since of one in another zone")
	list := f.entries("q")
	require.Len(f, list, 1)
	require.True(f, tick.Equal(list[0].Last), "the last tick stays claimed")
	require.ErrorIs(f, f.queueEntry(list[0], tick), broker.ErrDuplicate, "the tick of before")
}

func entryQueues(f *fixture) {
	require.Empty(f, f.entries(), "Entries of a new broker")
	for _, queue := range []string{"b", "a"} {
		for _, id := range []string{"2", "1"} {
			f.put(f.newEntry(queue, id, "@daily"))
		}
	}
	names := func(list []*broker.Entry) string {
		var s []string
		for _, e := range list {
			s = append(s, e.Run.Queue+e.ID)
		}
		return strings.Join(s, " ")
	}
	require.Equal(f, "a1 a2 b1 b2", names(f.entries()), "Entries of all queues")
	require.Equal(f, "b1 b2", names(f.entries("b")))
	require.Equal(f, "", names(f.entries("c")))
}

func entryOfAnother(f *fixture) {
	f.put(f.newEntry("q", "e", "@daily", task("a")))
	err := f.timetable().PutEntry(f.ctx(), f.newEntry("q", "e", "@hourly", task("b")))
	require.ErrorIs(f, err, broker.ErrDuplicate, "PutEntry with the id of another task's")
	require.Equal(f, "@daily", f.entries("q")[0].Spec)
}

func entryDeleted(f *fixture) {
	require.ErrorIs(f, f.timetable().DeleteEntry(f.ctx(), "q", "e"), broker.ErrNoEntry, "DeleteEntry of none")
	e := f.put(f.newEntry("q", "e", "@daily"))
	tick := e.Since.Add(time.Hour)
	require.NoError(f, f.queueEntry(e, tick), "QueueEntry")
	require.NoError(f, f.timetable().DeleteEntry(f.ctx(), "q", "e"), "DeleteEntry")
	require.ErrorIs(f, f.timetable().DeleteEntry(f.ctx(), "q", "e"), broker.ErrNoEntry, "DeleteEntry again")
	require.Empty(f, f.entries("q"))
	f.put(f.newEntry("q", "e", "@daily"))
	require.True(f, f.entries("q")[0].Last.IsZero(), "Last of a new one with the id of a deleted one")
}

func entryChanges(f *fixture) {
	ask := func() map[string]int64 {
		f.Helper()
		n, err := f.timetable().EntryChanges(f.ctx())
		require.NoError(f, err, "EntryChanges")
		return n
	}
	require.Empty(f, ask(), "EntryChanges of a new broker")
	f.put(f.newEntry("other", "e", "@daily"))
	e := f.put(f.newEntry("q", "e", "@daily"))
	deadline := time.Now().Add(patience)
	for ask()["q"] == 0 {
		require.True(f, time.Now().Before(deadline), "a queue's first entry is not told")
		f.pass(20 * time.Millisecond)
	}
	last := ask()
	changed := func(what string) {
		f.Helper()
		now := ask()
		require.NotEqual(f, last["q"], now["q"], what)
		require.Equal(f, last["other"], now["other"], "the number of another queue after: %s", what)
		last = now
	}
	f.put(f.newEntry("q", "e", "@daily"))
	changed("a schedule was put again")
	require.ErrorIs(f, f.queueEntry(e, e.Since.Add(time.Hour)), broker.ErrNoEntry)
	require.Equal(f, last, ask(), "a tick is no change")
	require.NoError(f, f.timetable().DeleteEntry(f.ctx(), "q", "e"))
	changed("it was deleted")
	f.put(f.newEntry("q", "e", "@daily"))
	changed("it was put anew")
}

func entryTickOnce(f *fixture) {
	const ticks, racers = 10, 16
	e := f.put(f.newEntry("q", theTask, "@every 1s"))
	for i := range ticks {
		tick := e.Since.Add(time.Duration(i+1) * time.Second)
		var claimed atomic.Int32
		f.each(racers, func(int) error {
			err := f.queueEntry(e, tick)
			if err == nil {
				claimed.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, claimed.Load(), "schedulers of %d that claimed the tick %v", racers, tick)
	}
	require.Equal(f, ticks, f.length("q"), "runs queued for %d ticks", ticks)
	f.requireLastTick("q", theTask, time.Time{}) // the task of that name has ticks of its own
}

func entryTickStale(f *fixture) {
	old := f.put(f.newEntry("q", "e", "@every 1s"))
	tick := old.Since.Add(time.Hour)
	now := f.put(f.newEntry("q", "e", "@every 2s"))
	require.ErrorIs(f, f.queueEntry(old, tick), broker.ErrNoEntry, "QueueEntry of one that was changed")
	require.NoError(f, f.queueEntry(now, tick), "QueueEntry of the changed one")
	require.NoError(f, f.timetable().DeleteEntry(f.ctx(), "q", "e"))
	require.ErrorIs(f, f.queueEntry(now, tick.Add(time.Hour)), broker.ErrNoEntry, "QueueEntry of one that was deleted")
	anew := f.put(f.newEntry("q", "e", "@every 2s"))
	require.ErrorIs(f, f.queueEntry(now, tick.Add(time.Hour)), broker.ErrNoEntry, "QueueEntry of one that was deleted and put anew")
	require.NoError(f, f.queueEntry(anew, tick), "QueueEntry of the new one")
	require.Equal(f, 2, f.length("q"), "runs queued")
}

func entryRefused(f *fixture) {
	for what, edit := range map[string]func(*broker.Entry){
		"no rule":          func(e *broker.Entry) { e.Spec = "" },
		"a long rule":      func(e *broker.Entry) { e.Spec = strings.Repeat("x", broker.MaxSpec+1) },
		"a long zone":      func(e *broker.Entry) { e.Zone = strings.Repeat("x", broker.MaxName+1) },
		"no run":           func(e *broker.Entry) { e.Run = nil },
		"another id":       func(e *broker.Entry) { e.Run.ID = "f" },
		"an unsafe id":     func(e *broker.Entry) { e.ID, e.Run.ID = "a b", "a b" },
		"a long id":        func(e *broker.Entry) { e.ID = strings.Repeat("x", broker.MaxEntryID+1); e.Run.ID = e.ID },
		"an unsafe queue":  func(e *broker.Entry) { e.Run.Queue = "\x00" },
		"a negative delay": func(e *broker.Entry) { e.Run.Delay = -1 },
	} {
		e := f.newEntry("q", "e", "@daily")
		edit(e)
		require.Error(f, f.timetable().PutEntry(f.ctx(), e), "PutEntry with %s", what)
	}
	require.Empty(f, f.entries())
}

func entryMany(f *fixture) {
	const n = 2500
	f.each(50, func(i int) error {
		for k := i; k < n; k += 50 {
			if err := f.timetable().PutEntry(f.ctx(), f.newEntry("q", fmt.Sprintf("entry-%04d", k), "@daily")); err != nil {
				return err
			}
		}
		return nil
	})
	list := f.entries("q")
	require.Len(f, list, n)
	for i, e := range list {
		require.Equal(f, fmt.Sprintf("entry-%04d", i), e.ID)
		require.Equal(f, e.ID, e.Run.ID)
	}
}
