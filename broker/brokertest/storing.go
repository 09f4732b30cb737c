package brokertest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var storingChecks = []check{
	{"every field comes back as it was queued", everyField},
	{"runs given to QueueTasks are neither changed nor kept", notKept},
	{"a run that cannot be stored safely is refused with its batch", unsafeRefused},
	{"odd names that are allowed are kept apart", oddNames},
	{"payload bytes are opaque", opaquePayloads},
	{"a batch of ten thousand is stored whole and in order", bigBatch},
	{"a batch that is too large is refused whole", tooLargeBatch},
	{"a batch of too many is refused whole", tooManyRuns},
	{"a batch of thousands of delayed runs is seen whole", bigDelayedBatch},
	{"QueueLength counts what waits, due or not, and nothing taken", lengths},
	{"ten thousand runs of many producers reach many consumers once each", exactlyOnce},
}

// fullRuns are runs with every field set: one due by instant, one by delay.
func fullRuns(f *fixture, queue string) []*broker.TaskRun {
	full := func(r *broker.TaskRun) {
		*r = broker.TaskRun{
			ID: r.ID, Task: "full_task", Queue: queue, Kind: broker.CPU, Priority: broker.High,
			Payload:  []byte("\x81\xa3url\xa3a b"),
			QueuedAt: time.Unix(1_700_000_000, 123_456_789),
			Expire:   time.Hour + 1, Keep: 2*time.Hour + 3, KeepParams: true, OwnID: true,
			History: &broker.History{Attempts: []broker.Attempt{
				{Started: time.Unix(1_700_000_050, 5).UTC(), Took: time.Second + 9, Host: "a-host:4711", Kind: broker.FailureTimeout, Message: "größer"},
				{Kind: broker.FailureCrashed},
			}, Due: time.Unix(1_700_000_060, 7).UTC()},
			Rules: &broker.Rules{Unique: "unique-" + r.ID, UniqueFor: 4*time.Hour + 5, Fair: "fair",
				Limits: []broker.Limit{{Key: "at-once", Max: 1000}, {Key: "rate", Max: 2000, Per: time.Minute + 7}}},
			Attempt: 7, ParentID: "the-parent", RootID: "the-root",
			Headers: map[string]string{"traceparent": "00-ab-cd-01", "k": "v w", "empty": ""},
			Links: &broker.Links{Then: []broker.FollowUp{{Param: "p", Run: &broker.TaskRun{
				ID: r.ID + "-next", Task: "next_task", Queue: "next-queue", Payload: []byte("\x80"), Keep: time.Hour,
			}}}},
		}
	}
	return []*broker.TaskRun{
		f.newRun(queue, full, func(r *broker.TaskRun) { r.Due = time.Unix(1_700_000_100, 987_654_321) }),
		f.newRun(queue, full, func(r *broker.TaskRun) { r.Delay = 1 }),
		f.newRun(queue, full, func(r *broker.TaskRun) { r.Kind, r.Priority = broker.IO, broker.Low }),
		{ID: "bare", Task: "t", Queue: queue},
	}
}

func everyField(f *fixture) {
	want := fullRuns(f, "q")
	f.queue(want...)
	got := byID(f.get(len(want), "q"))
	for _, w := range want {
		require.Contains(f, got, w.ID, "runs that came back")
		f.requireSame(w, got[w.ID], "a run that was queued and taken")
	}
}

func notKept(f *fixture) {
	for _, given := range fullRuns(f, "q") {
		before := *given
		before.Payload, before.Headers = bytes.Clone(given.Payload), cloneMap(given.Headers)
		before.Rules, before.Links, before.History = cloneRules(given.Rules), cloneLinks(given.Links), given.History.Clone()
		f.queue(given)
		f.requireSame(&before, given, "the caller's run after QueueTasks")
		scribble(given)
		f.requireSame(&before, f.get(1, "q")[0], "a run whose original was changed after QueueTasks")
	}
}

// scribble changes everything that could be shared.
func scribble(r *broker.TaskRun) {
	for i := range r.Payload {
		r.Payload[i] ^= 0xff
	}
	for k := range r.Headers {
		r.Headers[k] = "changed"
	}
	if r.Rules != nil {
		for i := range r.Rules.Limits {
			r.Rules.Limits[i] = broker.Limit{Key: "changed", Max: 1}
		}
		*r.Rules = broker.Rules{Unique: "changed", Fair: "changed", Limits: r.Rules.Limits}
	}
	if r.History != nil {
		clear(r.History.Attempts)
		*r.History = broker.History{}
	}
	if r.Links != nil {
		for _, c := range r.Links.Then {
			scribble(c.Run)
		}
		*r.Links = broker.Links{Group: "changed", Then: r.Links.Then}
	}
	*r = broker.TaskRun{
		ID: "changed", Task: "changed", Queue: "changed", Payload: r.Payload, Headers: r.Headers, Rules: r.Rules, Links: r.Links,
	}
}

func cloneRules(r *broker.Rules) *broker.Rules {
	if r == nil {
		return nil
	}
	c := *r
	c.Limits = slices.Clone(c.Limits)
	return &c
}

func cloneLinks(l *broker.Links) *broker.Links {
	if l == nil {
		return nil
	}
	c := *l
	c.Then = cloneThen(c.Then)
	return &c
}

func cloneThen(then []broker.FollowUp) []broker.FollowUp {
	var c []broker.FollowUp
	for _, next := range then {
		run := *next.Run
		run.Payload, run.Rules, run.Links = bytes.Clone(run.Payload), cloneRules(run.Rules), cloneLinks(run.Links)
		c = append(c, broker.FollowUp{Run: &run, Param: next.Param})
	}
	return c
}

func cloneMap(m map[string]string) map[string]string {
	c := make(map[string]string, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func unsafeRefused(f *fixture) {
	long := strings.Repeat("x", 1<<20)
	for what, spoil := range map[string]func(*broker.TaskRun){
		"empty id":              func(r *broker.TaskRun) { r.ID = "" },
		"id a byte too long":    func(r *broker.TaskRun) { r.ID = long[:broker.MaxID+1] },
		"id of 1 MiB":           func(r *broker.TaskRun) { r.ID = long },
		"id with NUL":           func(r *broker.TaskRun) { r.ID = "a\x00b" },
		"id with newline":       func(r *broker.TaskRun) { r.ID = "a\r\nb" },
		"id with escape":        func(r *broker.TaskRun) { r.ID = "\x1b[31mred" },
		"id beyond ASCII":       func(r *broker.TaskRun) { r.ID = "caf\u00e9" },
		"empty task":            func(r *broker.TaskRun) { r.Task = "" },
		"task with space":       func(r *broker.TaskRun) { r.Task = "a b" },
		"empty queue":           func(r *broker.TaskRun) { r.Queue = "" },
		"queue with newline":    func(r *broker.TaskRun) { r.Queue = "a\nb" },
		"queue a byte too long": func(r *broker.TaskRun) { r.Queue = long[:broker.MaxName+1] },
		"parent with tab":       func(r *broker.TaskRun) { r.ParentID = "a\tb" },
		"33 headers": func(r *broker.TaskRun) {
			r.Headers = make(map[string]string)
			for i := range broker.MaxHeaders + 1 {
				r.Headers[strings.Repeat("h", i+1)] = ""
			}
		},
		"long header":                 func(r *broker.TaskRun) { r.Headers = map[string]string{"h": long[:broker.MaxHeader]} },
		"header not UTF-8":            func(r *broker.TaskRun) { r.Headers = map[string]string{"h": "\xff"} },
		"unknown kind":                func(r *broker.TaskRun) { r.Kind = 2 },
		"unknown priority":            func(r *broker.TaskRun) { r.Priority = 2 },
		"negative delay":              func(r *broker.TaskRun) { r.Delay = -1 },
		"negative unique":             func(r *broker.TaskRun) { r.EnsureRules().UniqueFor = -1 },
		"unique key with space":       func(r *broker.TaskRun) { r.EnsureRules().Unique = "a b" },
		"unique key too long":         func(r *broker.TaskRun) { r.EnsureRules().Unique = long[:broker.MaxKey+1] },
		"fair key with newline":       func(r *broker.TaskRun) { r.EnsureRules().Fair = "a\nb" },
		"fair key of 1 MiB":           func(r *broker.TaskRun) { r.EnsureRules().Fair = long },
		"limit without key":           func(r *broker.TaskRun) { r.EnsureRules().Limits = []broker.Limit{{Max: 1}} },
		"limit of none":               func(r *broker.TaskRun) { r.EnsureRules().Limits = []broker.Limit{{Key: "k"}} },
		"limit per less than no time": func(r *broker.TaskRun) { r.EnsureRules().Limits = []broker.Limit{{Key: "k", Max: 1, Per: -1}} },
		"5 limits": func(r *broker.TaskRun) {
			r.EnsureRules().Limits = slices.Repeat([]broker.Limit{{Key: "k", Max: 1}}, broker.MaxLimits+1)
		},
		"group with tab":  func(r *broker.TaskRun) { r.EnsureLinks().Group = "a\tb" },
		"member before 0": func(r *broker.TaskRun) { r.EnsureLinks().Member = -1 },
		"negative keep":   func(r *broker.TaskRun) { r.Keep = -time.Hour },
		"long message": func(r *broker.TaskRun) {
			r.History = &broker.History{Attempts: []broker.Attempt{{Message: long[:broker.MaxAttemptMessage+1]}}}
		},
		"11 attempts": func(r *broker.TaskRun) {
			r.History = &broker.History{Attempts: make([]broker.Attempt, broker.MaxHistory+1)}
		},
		"due in 9999": func(r *broker.TaskRun) { r.Due = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		bad := f.newRun("q", spoil)
		require.Error(f, bad.Validate(), "Validate of a run with %s", what)
		require.Error(f, f.b.QueueTasks(f.ctx(), f.newRun("q"), bad), "QueueTasks of a run with %s", what)
		require.Error(f, f.b.QueueTasks(f.ctx(), bad), "QueueTasks of only a run with %s", what)
	}
	require.Zero(f, f.length("q"), "runs stored of batches with an unsafe run")
	f.nothing("q")
}

func oddNames(f *fixture) {
	names := []string{
		"a", "A", "{a}", "a}", "{", "{}", "a:b", "a:b:c", ":", "*", "a*", "[a]", "?", "../a", "/", "%s", "%7B",
		`\`, `"`, "'", "a:io:1", "a:delayed", "$", "-", "~", strings.Repeat("n", broker.MaxName),
	}
	for _, name := range names {
		f.queue(f.newRun(name, ownID("id")), f.newRun(name, func(r *broker.TaskRun) { r.ID, r.Task = name, name }))
	}
	for _, name := range names {
		require.Equal(f, 2, f.length(name), "length of queue %q", name)
		for _, r := range f.get(2, name) {
			require.Equal(f, name, r.Queue, "queue of run %q, taken of queue %q", r.ID, name)
		}
	}
	f.nothing(names...)
}

func opaquePayloads(f *fixture) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	payloads := [][]byte{
		nil, {}, {0}, {0xc1}, []byte("\r\n"), []byte("*3\r\n$3\r\nDEL\r\n"), every,
		bytes.Repeat([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, 100), bytes.Repeat([]byte{0x91}, 4096),
		[]byte("' \" ; -- ${x} {{.}} \x1b[2J"), bytes.Repeat(every, 4096),
	}
	for i, p := range payloads {
		f.queue(f.newRun("q", func(r *broker.TaskRun) { r.Payload = bytes.Clone(p) }))
		got := f.get(1, "q")[0].Payload
		require.Truef(f, bytes.Equal(p, got), "payload %d came back otherwise: got %d bytes %.40q, want %d bytes %.40q",
			i, len(got), got, len(p), p)
	}
}

func bigBatch(f *fixture) {
	want := ids(f.queueNew("q", 10_000))
	require.Equal(f, 10_000, f.length("q"), "length of the queue after one batch of 10,000")
	got := ids(f.get(10_000, "q"))
	for i := range want {
		require.Equal(f, want[i], got[i], "run %d of 10,000 in order", i)
	}
	f.nothing("q")
}

func tooLargeBatch(f *fixture) {
	const n = 4
	large := func(more int) []*broker.TaskRun {
		runs := f.newRuns("q", n)
		for _, r := range runs {
			r.Headers = map[string]string{"k": "v w"}
			r.Payload = make([]byte, broker.MaxBatch/n-4)
		}
		runs[n-1].Payload = runs[n-1].Payload[:len(runs[n-1].Payload)-4]
		runs[0].Links = &broker.Links{Then: []broker.FollowUp{{Run: &broker.TaskRun{
			ID: runs[0].ID + "-next", Task: "t", Queue: "q", Payload: make([]byte, 4+more),
		}}}}
		return runs
	}
	err := f.b.QueueTasks(f.ctx(), large(1)...)
	require.ErrorIs(f, err, broker.ErrBatchTooLarge, "runs that carry a byte more than MaxBatch")
	require.ErrorContains(f, err, fmt.Sprintf("they carry %d bytes, at most %d are allowed", broker.MaxBatch+1, broker.MaxBatch), "the limit")
	require.Zero(f, f.length("q"), "runs of a batch that was refused")
	f.queue(large(0)...)
	require.Equal(f, n, f.length("q"), "runs of a batch as large as can be")
}

func tooManyRuns(f *fixture) {
	runs := make([]*broker.TaskRun, broker.MaxRuns+1)
	for i := range runs {
		runs[i] = f.newRun("q")
	}
	err := f.b.QueueTasks(f.ctx(), runs...)
	require.ErrorIs(f, err, broker.ErrBatchTooLarge, "a run more than MaxRuns")
	require.ErrorContains(f, err, fmt.Sprintf("at most %d are allowed", broker.MaxRuns), "the limit")
	require.Zero(f, f.length("q"), "runs of a batch that was refused")
}

func bigDelayedBatch(f *fixture) {
	const n = 5000
	runs := f.newRuns("q", n, delay(time.Hour))
	stop, seen := make(chan struct{}), make(chan []int, 1)
	go func() {
		var lengths []int
		for {
			select {
			case <-stop:
				seen <- lengths
				return
			default:
			}
			if all, err := f.b.QueueLength(f.ctx()); err == nil {
				lengths = append(lengths, int(all["q"]))
			}
		}
	}()
	err := f.b.QueueTasks(f.ctx(), runs...)
	close(stop)
	for _, length := range <-seen {
		require.Contains(f, []int{0, n}, length, "length while %d runs are queued by one call", n)
	}
	require.NoError(f, err, "QueueTasks of %d delayed runs", n)
	require.Equal(f, n, f.length("q"), "length of the queue after that")
	f.nothing("q")
}

func lengths(f *fixture) {
	require.Zero(f, f.length("q"), "length of a queue never used")
	f.queueNew("q", 3)
	f.queueNew("q", 2, delay(time.Hour))
	f.queueNew("q", 1, kind(broker.CPU), priority(broker.High))
	f.queueNew("other", 1)
	require.Equal(f, 6, f.length("q"), "length with 3 due, 2 delayed and 1 cpu run")
	require.Equal(f, 1, f.length("other"), "length of the other queue")
	f.get(2, "q")
	require.Equal(f, 4, f.length("q"), "length after 2 of 6 were taken")
	f.get(2, "q")
	require.Equal(f, 2, f.length("q"), "length with only delayed runs left")
}

func exactlyOnce(f *fixture) {
	const total, producers, consumers, batch = 10_000, 8, 8, 25
	runs := f.newRuns("q", total)
	var seen tally
	ctx := f.ctx()
	produced := f.start(producers, func(i int) error {
		share := runs[i*total/producers : (i+1)*total/producers]
		for part := range slices.Chunk(share, batch) {
			if err := f.b.QueueTasks(ctx, part...); err != nil {
				return err
			}
		}
		return nil
	})
	stop := f.within(endurance)
	consumed := f.start(consumers, func(int) error {
		for seen.len() < total && stop.Err() == nil {
			got, _ := f.b.GetTaskRuns(f.within(quiet), []string{"q"}, 64)
			seen.add(got...)
		}
		return nil
	})
	require.NoError(f, produced(), "producers")
	require.NoError(f, consumed(), "consumers")
	f.requireOnce(&seen, runs, "runs of 8 producers taken by 8 consumers")
	f.nothing("q")
}

var duplicateChecks = []check{
	{"a batch with the id of a live run stores nothing", duplicateInBatch},
	{"a batch with one own id twice stores nothing", duplicateWithinBatch},
	{"an own id is a duplicate while its run waits and free once it is gone", duplicateUntilTaken},
	{"of many producers of one own id one is accepted", duplicateRace},
}

func (f *fixture) queueDuplicate(what string, runs ...*broker.TaskRun) {
	f.Helper()
	require.ErrorIs(f, f.b.QueueTasks(f.ctx(), runs...), broker.ErrDuplicate, "QueueTasks with the own id of a run that is %s", what)
}

func duplicateInBatch(f *fixture) {
	f.queue(f.newRun("q", ownID("order-5")))
	var batch []*broker.TaskRun
	for i := range 10 {
		batch = append(batch, f.newRun("q", ownID(fmt.Sprintf("order-%d", i))))
	}
	f.queueDuplicate("queued", batch...)
	require.Equal(f, 1, f.length("q"), "length of the queue after a batch with a duplicate in its middle")
	// No id of the refused batch may have been claimed.
	f.queue(append(batch[:5:5], batch[6:]...)...)
	require.Len(f, f.get(10, "q"), 10)
	f.nothing("q")
}

func duplicateWithinBatch(f *fixture) {
	f.queueDuplicate("in the same batch",
		f.newRun("q"), f.newRun("q", ownID("twice")), f.newRun("q", ownID("once")), f.newRun("q", ownID("twice")))
	require.Zero(f, f.length("q"), "length of the queue after a batch with an id twice")
	f.queue(f.newRun("q", ownID("once")), f.newRun("q", ownID("twice")))
	require.Len(f, f.get(2, "q"), 2)
}

func duplicateUntilTaken(f *fixture) {
	f.queue(f.newRun("q", ownID("now")))
	f.queueDuplicate("queued", f.newRun("q", ownID("now")))
	f.queue(f.newRun("q", ownID("later"), delay(2*quiet)))
	f.queueDuplicate("delayed", f.newRun("q", ownID("later")))
	// What GetTaskRuns took is no longer the broker's, so the ids are free.
	require.ElementsMatch(f, []string{"now", "later"}, ids(f.get(2, "q")), "runs taken")
	f.queue(f.newRun("q", ownID("now")), f.newRun("q", ownID("later")))
	require.Equal(f, 2, f.length("q"), "length after both ids were used again")
}

func duplicateRace(f *fixture) {
	const rounds, racers = 10, 32
	for round := range rounds {
		var accepted atomic.Int32
		id := fmt.Sprintf("order-%d", round)
		f.each(racers, func(int) error {
			err := f.b.QueueTasks(f.ctx(), f.newRun("q", ownID(id), delay(time.Hour)))
			if err == nil {
				accepted.Add(1)
			} else if !errors.Is(err, broker.ErrDuplicate) {
				return err
			}
			return nil
		})
		require.EqualValues(f, 1, accepted.Load(), "accepted of %d producers of id %s", racers, id)
	}
	require.Equal(f, rounds, f.length("q"), "length after the races")
}
