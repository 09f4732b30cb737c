package redis_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/poison"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestABatchThatCannotBeDeletedKeepsItsMarks fails each command with which the last run of a
// batch is finished. A run of the batch that was finished before does not start again.
func TestABatchThatCannotBeDeletedKeepsItsMarks(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, c := open(t, server, redis.Config{}), raw(t, server)
	b.Instrument(failing)
	failed := 0
	for n := 1; ; n++ {
		q := fmt.Sprint("q", n)
		require.NoError(t, b.QueueTasks(t.Context(), run("first", q), run("last", q)))
		s := join(t, b, time.Minute)
		got := takeAll(t, s, q, 2)
		_, err := s.Finish(t.Context(), broker.Outcome{Run: got[0]})
		require.NoError(t, err)
		require.NoError(t, c.Set(t.Context(), "fail", fmt.Sprintf("finish %d 0", n), 0).Err())
		_, err = s.Finish(t.Context(), broker.Outcome{Run: got[1]})
		if c.Del(t.Context(), "fail").Val() > 0 {
			require.NoError(t, err)
			break
		}
		failed++
		require.NoError(t, c.Del(t.Context(), prefix(t)+":{"+q+"}:leases").Err())
		_, err = b.Recover(t.Context(), []string{q})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		again, _ := join(t, b, time.Minute).Take(ctx, broker.Want{Queues: []string{q}, IO: 2})
		cancel()
		require.NotContains(t, ids(again), "first", "command %d failed: %v", n, err)
	}
	require.Greater(t, failed, 1, "commands that failed")
}

// step leaves out the more of what long scripts do in their loops the later it comes,
// unless there is time.
func step(n int) int {
	if os.Getenv("TASKGEN_SOAK") == "" {
		return n
	}
	return 1
}

func (l *life) try(err error) bool {
	if err != nil {
		l.errs = append(l.errs, err)
	}
	return err == nil
}

// queue queues runs, and notes whether they are accepted.
func (l *life) queue(runs ...*broker.TaskRun) {
	l.Helper()
	ok := l.try(l.b.QueueTasks(l.Context(), runs...))
	for _, r := range runs {
		if ok {
			l.accepted[r.ID] = true
		} else {
			l.refused[r.ID] = true
		}
	}
}

func (l *life) make(id string, change ...func(r *broker.TaskRun)) *broker.TaskRun {
	r := run(id, l.q)
	for _, f := range change {
		f(r)
	}
	return r
}

func withFair(value string) func(r *broker.TaskRun) {
	return func(r *broker.TaskRun) { r.EnsureRules().Fair = value }
}

func withLimited(key string, most int, per time.Duration) func(r *broker.TaskRun) {
	return func(r *broker.TaskRun) {
		rules := r.EnsureRules()
		rules.Limits = append(rules.Limits, broker.Limit{Key: key, Max: most, Per: per})
	}
}

func withSoon(r *broker.TaskRun)     { r.Delay = time.Millisecond }
func withKept(r *broker.TaskRun)     { r.Keep = time.Hour }
func withOwn(r *broker.TaskRun)      { r.OwnID = true }
func withDisabled(r *broker.TaskRun) { r.Task = "disabled" }
func withUnique(r *broker.TaskRun)   { r.EnsureRules().Unique = "u" + r.ID }

// live goes once through all that scripts do.
func (l *life) live() {
	ctx := l.Context()
	if strings.HasSuffix(l.Name(), "/endwaiting") || strings.HasSuffix(l.Name(), "/endruns") {
		l.cancelWaiting()
	}
	if strings.HasSuffix(l.Name(), "/runnow") || strings.HasSuffix(l.Name(), "/cancelruns") {
		l.change()
	}
	l.try(l.b.Disable(ctx, l.q, "disabled", true))
	l.queue(l.make("plain"), l.make("kept", withKept), l.make("own", withOwn, withKept), l.make("unique", withUnique))
	l.queue(l.make("deferred", withDisabled), l.make("behind"), l.make("deferred-fair", withDisabled, withFair("a")))
	l.queue(l.make("soon", withSoon, withKept), l.make("soon-fair", withSoon, withFair("a")), l.make("soon-held", withSoon, withLimited("h", 1, 0)))
	for i := range 2 {
		l.queue(l.make(fmt.Sprint("fair-a", i), withFair("a")), l.make(fmt.Sprint("fair-b", i), withFair("b"), withUnique))
		l.queue(l.make(fmt.Sprint("running", i), withLimited("h", 1, 0), withLimited("g", 3, 0)))
		l.queue(l.make(fmt.Sprint("rate", i), withLimited("r", 1, time.Millisecond), withLimited("h", 2, 0)))
	}
	if name := l.Name(); strings.HasSuffix(name, "stage") || strings.HasSuffix(name, "/commit") {
		l.large()
	}
	l.tick()
	gathering := l.make("gathering", withOwn, withKept)
	gathering.EnsureLinks().Awaits = broker.Group{ID: "g" + l.q, Queue: l.q, Size: 2}
	var members []*broker.TaskRun
	for i := range 2 {
		m := l.make(fmt.Sprint("member", i))
		m.Links = &broker.Links{Group: "g" + l.q, Member: i}
		members = append(members, m)
	}
	if l.try(l.b.QueueGroup(ctx, gathering, members...)) {
		l.accepted["gathering"], l.accepted["member0"], l.accepted["member1"] = true, true, true
	}
	if name := l.Name(); strings.HasSuffix(name, "/group") || strings.HasSuffix(name, "/pending") || strings.HasSuffix(name, "/endwaiting") {
		l.nested()
	}
	l.try(func() error { _, err := l.b.Record(ctx, l.q, "kept"); return err }())

	first := l.join()
	got := l.take(first)
	if strings.Contains(l.Name(), "/recordrunning") { // which comes by itself, soon
		for deadline := time.Now().Add(time.Second); time.Now().Before(deadline) && l.c.Exists(ctx, "fail").Val() > 0; {
			if l.c.GetRange(ctx, l.key("rec:kept"), 0, 0).Val() != "q" {
				break
			}
		}
	}
	l.begin(first, got)
	l.finish(first, got...)
	l.try(l.b.Cancel(ctx, l.q, "behind", broker.Failure{Kind: broker.FailureCancelled}))

	leaves := l.join()
	l.take(leaves)
	l.try(leaves.Close(ctx))
	l.try(l.b.Disable(ctx, l.q, "disabled", false))

	for range 2 { // so that what came back begins
		dies := l.join()
		got = l.take(dies)
		l.begin(dies, got)
		if len(got) > 0 {
			l.try(l.b.Cancel(ctx, l.q, got[0].ID, broker.Failure{Kind: broker.FailureCancelled}))
			l.dropped[got[0].ID] = true // also if the reply came, and not all of it was done
		}
		l.die()
	}
}

// large queues a call in pages, for its size.
func (l *life) large() {
	big := func(r *broker.TaskRun) { r.Payload = make([]byte, 700_000) }
	l.queue(l.make("large0", big, withOwn, withKept, withUnique), l.make("large1", big, withFair("c")),
		l.make("large2", big, withUnique, withSoon, withKept), l.make("large3", big, withLimited("h", 1, 0)))
}

// nested queues a group within another, and behind it a run that a live one is in the way of:
// the first of the two that is stored is in the way of the other, unless its script fails.
func (l *life) nested() {
	outer, inner := l.make("outer", withKept), l.make("inner", withOwn, withKept)
	skipped := l.make("skipped", withKept)
	skipped.ID, skipped.OwnID = "inner", true
	of := func(r *broker.TaskRun, group string, place int) *broker.TaskRun {
		links := r.EnsureLinks()
		links.Group, links.Member = group+l.q, place
		return r
	}
	gathers := func(r *broker.TaskRun, group string, members ...*broker.TaskRun) *broker.TaskRun {
		links := r.EnsureLinks()
		links.Awaits = broker.Group{ID: group + l.q, Queue: l.q, Size: len(members)}
		links.Members = members
		return r
	}
	gathers(inner, "i", of(l.make("x0"), "i", 0), of(l.make("x1"), "i", 1))
	members := []*broker.TaskRun{of(l.make("o0"), "o", 0), of(inner, "o", 1)}
	if !strings.HasSuffix(l.Name(), "/pending") {
		members = append(members, of(gathers(skipped, "s", of(l.make("never"), "s", 0)), "o", 2))
	}
	gathers(outer, "o", members...).Links.Members = nil
	if !l.try(l.b.QueueGroup(l.Context(), outer, members...)) {
		return
	}
	for _, id := range []string{"outer", "inner", "x0", "x1", "o0"} {
		l.accepted[id] = true
	}
	l.refused["never"] = true
}

// cancelWaiting cancels runs wherever they wait, and repeats what fails.
func (l *life) cancelWaiting() {
	ctx := l.Context()
	l.queue(l.make("holds", withLimited("c", 1, 0)))
	holder := l.join()
	var held []*broker.TaskRun
	for deadline := time.Now().Add(20 * time.Second); len(held) == 0 && time.Now().Before(deadline); { // a busy machine needs several calls
		held = l.take(holder)
	}
	require.Len(l, held, 1)
	later := func(r *broker.TaskRun) { r.Delay = time.Hour }
	l.queue(l.make("cancelled-ready", withOwn, withKept, withUnique), l.make("cancelled-delayed", later, withOwn, withKept, withUnique),
		l.make("cancelled-fair", withFair("c"), withOwn, withKept, withUnique),
		l.make("cancelled-waiting", withLimited("c", 1, 0), withFair("d"), withOwn, withKept, withUnique))
	gathers := l.make("cancelled-pending", withOwn, withKept)
	gathers.EnsureLinks().Awaits = broker.Group{ID: "c" + l.q, Queue: l.q, Size: 2}
	var members []*broker.TaskRun
	for i, id := range []string{"cancelled-member", "member"} {
		m := l.make(id, withOwn)
		m.Links = &broker.Links{Group: "c" + l.q, Member: i}
		members = append(members, m)
	}
	require.NoError(l, l.b.QueueGroup(ctx, gathers, members...))
	l.accepted["member"] = true
	if strings.HasSuffix(l.Name(), "/endruns") {
		l.changeWaiting()
	}
	for _, id := range []string{"ready", "delayed", "fair", "waiting", "pending", "member"} {
		id, failure := "cancelled-"+id, broker.Failure{Kind: broker.FailureCancelled}
		if l.cancelled[id] {
			continue
		}
		if !l.try(l.b.Cancel(ctx, l.q, id, failure)) {
			err := l.b.Cancel(ctx, l.q, id, failure)
			require.True(l, err == nil || errors.Is(err, broker.ErrNoRecord), "cancel %s again: %v", id, err)
		}
		l.dropped[id], l.cancelled[id] = true, true
	}
	require.NoError(l, holder.Close(ctx))
}

// changeWaiting cancels the runs that wait by changes, and repeats what fails.
func (l *life) changeWaiting() {
	matches := func(i *broker.RunInfo) bool { return strings.HasPrefix(i.Run.ID, "cancelled-") }
	for range 2 {
		for _, state := range []broker.State{broker.StateQueued, broker.StateDelayed} {
			_, err := l.b.ChangeRuns(l.Context(), l.q, state, broker.RunSearch{Match: matches}, cancelled)
			l.try(err)
		}
	}
	for _, state := range []broker.State{broker.StateQueued, broker.StateDelayed} {
		page, err := l.b.FindRuns(l.Context(), l.q, state, broker.RunSearch{Match: matches})
		require.NoError(l, err)
		require.Empty(l, page.Runs, "%v", l.errs)
	}
	for _, id := range []string{"ready", "delayed", "fair", "waiting", "member"} {
		l.dropped["cancelled-"+id], l.cancelled["cancelled-"+id] = true, true
	}
}

// change has delayed runs run now, and cancels runs in flight, and repeats what fails.
func (l *life) change() {
	later := func(r *broker.TaskRun) { r.Delay = time.Hour }
	l.queue(l.make("now", later, withKept), l.make("now-fair", later, withFair("n")), l.make("now-held", later, withLimited("n", 1, 0), withKept))
	for range 2 {
		_, err := l.b.ChangeRuns(l.Context(), l.q, broker.StateDelayed, broker.RunSearch{}, broker.RunChange{RunNow: true})
		l.try(err)
	}
	s := l.join()
	for _, r := range l.take(s) {
		l.dropped[r.ID] = true
	}
	for range 2 {
		_, err := l.b.ChangeRuns(l.Context(), l.q, broker.StateRunning, broker.RunSearch{}, cancelled)
		l.try(err)
	}
	l.die()
}

func (l *life) tick() {
	tick := time.Now()
	for range 2 { // the second repeats the first if that failed
		if !l.accepted["tick"] && l.try(l.b.QueueTick(l.Context(), l.make("tick"), tick)) {
			l.accepted["tick"] = true
		}
		l.try(l.b.PutSchedule(l.Context(), &broker.Schedule{ID: "entry", Spec: "@every 1h", Run: l.make("entry")}))
	}
	l.try(l.b.DeleteSchedule(l.Context(), l.q, "entry"))
}

func (l *life) join() broker.Session {
	s, err := l.b.OpenSession(l.Context(), time.Minute)
	require.NoError(l, err)
	return s
}

// take takes some runs, by several calls.
func (l *life) take(s broker.Session) (all []*broker.TaskRun) {
	for range 3 {
		ctx, cancel := context.WithTimeout(l.Context(), 5*time.Millisecond)
		got, err := s.Take(ctx, broker.Want{Queues: []string{l.q}, IO: 4, PrefetchIO: 1})
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		l.try(err)
		all = append(all, got...)
	}
	l.try(s.Renew(l.Context()))
	return all
}

func (l *life) begin(s broker.Session, runs []*broker.TaskRun) {
	for _, r := range runs {
		_, err := s.(poison.Tracker).Begin(l.Context(), r)
		l.try(err)
		_, err = s.(broker.Starter).Start(l.Context(), r)
		l.try(err)
	}
	if len(runs) > 0 {
		_, err := s.(broker.Heartbeater).Heartbeat(l.Context(), broker.Report{})
		l.try(err)
	}
}

// finish ends runs as their ids say, and tries again as the runtime does.
func (l *life) finish(s broker.Session, runs ...*broker.TaskRun) {
	var outcomes []broker.Outcome
	for i, r := range runs {
		o := broker.Outcome{Run: r}
		l.ran[r.ID]++
		switch {
		case !l.retried[r.ID] && i%4 == 1:
			o.Verdict, l.retried[r.ID] = broker.Retry, true
		case !l.retried[r.ID] && i%4 == 2:
			o.Verdict, o.Delay, l.retried[r.ID] = broker.Retry, time.Millisecond, true
		case i%4 == 3:
			o.Verdict, o.Failure = broker.Dead, &broker.Failure{Kind: broker.FailureFailed, Message: "as it was to"}
		case !strings.HasPrefix(r.ID, "next"):
			o.Next = []*broker.TaskRun{l.make("next-" + r.ID)}
		}
		outcomes = append(outcomes, o)
	}
	for range 5 {
		if _, err := s.Finish(l.Context(), outcomes...); l.try(err) {
			return
		}
	}
	l.Errorf("%v", l.errs)
}

// die ends all leases of the queue.
func (l *life) die() {
	require.NoError(l, l.c.Del(l.Context(), l.key("leases")).Err())
	_, err := l.b.Recover(l.Context(), []string{l.q})
	l.try(err)
}

func (l *life) key(rest string) string { return prefix(l.T) + ":{" + l.q + "}:" + rest }

// drain ends what is there, and looks at what is left.
func (l *life) drain(fail string) {
	l.die()
	require.NoError(l, l.b.Disable(l.Context(), l.q, "disabled", false))
	if err := l.b.DeleteSchedule(l.Context(), l.q, "entry"); err != nil {
		require.ErrorIs(l, err, broker.ErrNoSchedule)
	}
	for token, state := range l.c.HGetAll(l.Context(), l.key("stages")).Val() { // of calls that are not committed
		if state[0] == 'o' {
			require.NoError(l, l.c.HSet(l.Context(), l.key("stages"), token, "o0000000000001").Err())
		}
	}
	s := l.join()
	patience := 2 * time.Millisecond // of a take; doubled where it was too short for runs that are there
	for deadline := time.Now().Add(20 * time.Second); ; {
		_, err := l.b.Recover(l.Context(), []string{l.q})
		require.NoError(l, err, fail)
		ctx, cancel := context.WithTimeout(l.Context(), patience)
		got, err := s.Take(ctx, broker.Want{Queues: []string{l.q}, IO: 100})
		require.True(l, err == nil || errors.Is(err, context.DeadlineExceeded), "%v: %v", fail, err)
		cancel()
		var outcomes []broker.Outcome
		for _, r := range got {
			l.ran[r.ID]++
			outcomes = append(outcomes, broker.Outcome{Run: r})
		}
		_, err = s.Finish(l.Context(), outcomes...)
		require.NoError(l, err, fail)
		if len(got) == 0 && length(l, l.b, l.q) == 0 && l.c.Exists(l.Context(), l.key("inflight"), l.key("outbox"), l.key("stages")).Val() == 0 {
			break
		}
		if len(got) == 0 {
			patience = min(2*patience, time.Second)
		}
		require.True(l, time.Now().Before(deadline), "%s: it does not end: %v; left: %v, stages %v",
			fail, l.errs, keysOf(l, l.c, prefix(l.T)+":{"+l.q+"}"), l.c.HGetAll(l.Context(), l.key("stages")).Val())
	}
	require.NoError(l, s.Close(l.Context()))
	l.check(fail)
}

func (l *life) check(fail string) {
	dead := map[string]bool{}
	letters, err := l.b.DeadLetters(l.Context(), l.q, 1000)
	require.NoError(l, err)
	for _, letter := range letters {
		require.NotEmpty(l, letter.Failure.Message, fail)
		require.False(l, dead[letter.ID], "%s: run %s is two dead letters", fail, letter.ID)
		dead[letter.ID] = true
	}
	for id := range l.accepted {
		if id != "behind" && !l.dropped[id] && l.ran[id] == 0 && !dead[id] {
			l.Errorf("%s: accepted run %s is gone: %v", fail, id, l.errs)
		}
	}
	for id, n := range l.ran {
		if l.refused[id] {
			l.Errorf("%s: run %s was refused and ran", fail, id)
		}
		want := 1
		if l.cancelled[id] {
			want = 0
		}
		if l.retried[id] {
			want = 2
		}
		if n > want {
			l.Errorf("%s: run %s ran %d times: %v", fail, id, n, l.errs)
		}
	}
	allowed := []string{"dead", "takes", "leases", "starts", "rates", "ticks", "last", "schedules:changes", "idle:io", "wake:io", "idle:cpu", "wake:cpu", "waiters"}
	for _, key := range keysOf(l, l.c, prefix(l.T)+":{"+l.q+"}") {
		rest := strings.TrimPrefix(key, l.key(""))
		if !slices.Contains(allowed, rest) && l.c.TTL(l.Context(), key).Val() < 0 {
			l.Errorf("%s: key %s is left: %v", fail, rest, l.errs)
		}
	}
}
