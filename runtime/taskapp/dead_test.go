//go:build !windows

package taskapp_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// die queues n runs of Misbehave that end as dead letters of a kind, and returns
// their ids, the newest last.
func (f *fleet) die(n int, kind taskrt.FailureKind) []string {
	f.t.Helper()
	_, err := tasks.QueueMisbehaveBatch(f.ctx, make([]tasks.MisbehaveParams, n))
	require.NoError(f.t, err)
	return f.kill(n, kind)
}

// TestWhatIsNoDeadLetterIsListedAndDeleted: status counts it.
func TestWhatIsNoDeadLetterIsListedAndDeleted(t *testing.T) {
	f := newFleet(t)
	ids := f.die(1, "timeout")
	_, err := f.server.Do("RPUSH", "taskgen:{default}:dead", "", "garbage", "", strings.Repeat("9", 100))
	require.NoError(t, err)
	list := f.lists("dead", "list")
	require.Len(t, list, 5)
	require.Equal(t, ids[0], list[0].ID)
	for _, odd := range list[1:] {
		require.Contains(t, odd.Failure.Message, "the stored entry is no dead letter: ")
		require.True(t, odd.Unreadable)
		require.True(t, odd.EndedAt.IsZero(), "ended %v", odd.EndedAt)
	}
	out := f.says("dead", "list")
	require.Regexp(t, `\n`+list[1].ID+` +- +default +- +- +0 +- +the stored entry is no dead letter: `, out)
	require.Contains(t, out, "\n4 of these cannot be read, and can only be deleted.\n")
	require.NotContains(t, f.says("dead", "list", "--kind", "timeout"), "cannot be read")
	require.Contains(t, f.says("run", list[1].ID), "failure   the stored entry is no dead letter: ")
	require.Contains(t, f.stays(2, "dead", "retry", rawIDOfNothing), ": "+rawIDOfNothing+" (queue default), "+rawIDOfNothing+" (queue default)\n")
	require.Regexp(t, `^1 dead letter queued again, 4 stayed:\n`, f.stays(4, "dead", "retry", "--all", "--yes"))
	f.kill(1, "timeout")

	// What has no kind and no age is chosen by neither.
	require.Equal(t, "0 dead letters deleted\n", f.says("dead", "delete", "--yes", "--older", "1ns", "--kind", "schema"))
	require.Equal(t, "0 dead letters deleted\n", f.says("dead", "delete", "--yes", "--older", "1h"))
	require.Equal(t, "2 dead letters deleted\n", f.says("dead", "delete", rawIDOfNothing), "two of the same bytes")
	require.Equal(t, "3 dead letters deleted\n", f.says("dead", "delete", "--yes", "--all"))
	require.Equal(t, "0 dead letters deleted\n", f.says("dead", "delete", "--yes", "--all"))
	left, err := f.server.Do("LLEN", "taskgen:{default}:dead")
	require.NoError(t, err)
	require.EqualValues(t, 0, left)
}

// rawIDOfNothing names bytes that are none.
const rawIDOfNothing = "raw-e3b0c44298fc1c149afbf4c8"

// TestWhatIsNoDeadLetterIsNotOld: nobody knows when it came, so DeadAge leaves it.
func TestWhatIsNoDeadLetterIsNotOld(t *testing.T) {
	f := newFleet(t)
	old := "0000000001000\x00\x00\x00\x06\xc4\x00\xc4\x00\xc4\x00x" // of 1970
	_, err := f.server.Do("RPUSH", "taskgen:{default}:dead", "garbage", old)
	require.NoError(t, err)
	c, err := taskrt.NewConsumer(f.broker, taskrt.ConsumerConfig{DeadAge: time.Hour, Logger: slog.New(slog.DiscardHandler)}, tasks.Tasks(nil))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(f.ctx)
	var consuming sync.WaitGroup
	consuming.Go(func() { _ = c.Run(ctx) })
	t.Cleanup(func() { stop(); consuming.Wait() })
	f.await("the old one is deleted", func() bool {
		n, err := f.server.Do("LLEN", "taskgen:{default}:dead")
		require.NoError(t, err)
		return n == int64(1)
	})
	require.Contains(t, f.says("dead", "list"), "the stored entry is no dead letter")
}

// kill has n queued runs of cpu tasks end as dead letters.
func (f *fleet) kill(n int, kind taskrt.FailureKind) (ids []string) {
	f.t.Helper()
	s, err := f.broker.(broker.Leaser).OpenSession(f.ctx, time.Minute)
	require.NoError(f.t, err)
	for len(ids) < n {
		runs, err := s.Take(f.ctx, broker.Want{Queues: []string{"default"}, CPU: 100})
		require.NoError(f.t, err)
		for _, run := range runs {
			ids = append(ids, run.ID)
			done, err := s.Finish(f.ctx, broker.Outcome{Run: run, Verdict: broker.Dead, Failure: &broker.Failure{Kind: kind, Message: "told\nto"}})
			require.NoError(f.t, err)
			require.Empty(f.t, done.Fenced)
		}
	}
	require.NoError(f.t, s.Close(f.ctx))
	return ids
}

// stays executes a change after which n stay as they are, and returns what it prints.
func (f *fleet) stays(n int, args ...string) string {
	f.t.Helper()
	a := f.app(args...)
	require.Equal(f.t, 1, a.code, "%q: %s", args, a.stderr)
	require.Regexp(f.t, fmt.Sprintf(`: \w+( \w+)?: %d stayed, as said above\n$`, n), a.stderr)
	return a.stdout
}

func TestDeadLettersAreListedRetriedAndDeleted(t *testing.T) {
	f := newFleet(t)
	old := f.die(2, "timeout")
	ids := f.die(2, "crashed")
	out := f.says("dead", "list")
	require.Regexp(t, `^ID +TASK +QUEUE +KIND +ENDED +ATTEMPTS +HOST +MESSAGE\n(\S+ +misbehave +default +(crashed|timeout) +\S+ ago +0 +- +told\\nto\n){4}`, out)
	for _, id := range slices.Concat(old, ids) {
		require.Contains(t, out, "\n"+id+" ")
	}
	newestFirst := func(a, b shownRun) int { return b.EndedAt.Compare(a.EndedAt) } // two can end in one millisecond
	require.True(t, slices.IsSortedFunc(f.lists("dead", "list"), newestFirst))
	require.Equal(t, 6, strings.Count(out, "\n"))
	require.Contains(t, f.says("dead", "list", "--limit", "3"), " There are more; go on with\n")
	got := f.lists("dead", "list", "--kind", "timeout")
	require.Len(t, got, 2)
	require.Equal(t, &shownFailure{"timeout", "told\nto", ""}, got[0].Failure)
	require.WithinDuration(t, time.Now(), got[0].EndedAt, time.Minute)
	for args, want := range map[string]int{
		"--older 1h": 0, "--task misbehave": 4, "--task echo": 0, "--queue mail": 0, "--limit 1 --kind crashed": 1,
	} {
		require.Len(t, f.lists(append([]string{"dead", "list"}, strings.Fields(args)...)...), want, args)
	}
	require.Contains(t, f.refuses(2, "dead", "list", "--task", "misbehaev"), `did you mean "misbehave"?`)

	require.Equal(t, "1 dead letter queued again\n", f.says("dead", "retry", old[0]))
	var d shownDetail
	f.tells(&d, "run", old[0])
	require.Equal(t, "queued", d.State)
	require.Zero(t, d.Attempts)
	out = f.stays(1, "dead", "delete", old[0], old[1]) // one is no dead letter any more
	require.Equal(t, "1 dead letter deleted, 1 stayed:\n  "+old[0]+": no dead letter has this id\n", out)
	require.Equal(t, "0 dead letters deleted\n", f.says("dead", "delete", "--yes", "--kind", "timeout"))
	var done shownChange
	f.tells(&done, "dead", "delete", "--yes", "--all")
	require.Equal(t, 2, *done.Deleted)
	require.Nil(t, done.Retried)
	require.Zero(t, done.Stayed)
	require.Contains(t, f.refuses(1, "run", ids[0], "--queue", "mail"), "no run "+ids[0])
}

func TestDeadLettersAreDealtWithPageByPage(t *testing.T) {
	f := newFleet(t)
	const many = 450 // more than two pages
	f.die(many, "failed")
	f.die(3, "oom")
	f.die(many, "timeout")
	require.Equal(t, "3 dead letters queued again\n", f.says("dead", "retry", "--yes", "--kind", "oom"), "behind a page of others")
	require.Equal(t, fmt.Sprintf("%d dead letters deleted\n", many), f.says("dead", "delete", "--yes", "--kind", "failed"))
	require.Equal(t, fmt.Sprintf("%d dead letters queued again\n", many), f.says("dead", "retry", "--yes", "--all"))
	var s shownStatus
	f.tells(&s, "status", "--queue", "default")
	require.EqualValues(t, many+3, s.Queues[0].Queued)
	require.Zero(t, s.Queues[0].Dead)
}

func TestADeadLetterInWhoseWayARunIsStays(t *testing.T) {
	f := newFleet(t)
	_, err := tasks.QueueMisbehave(f.ctx, "error", taskrt.ID("mine"))
	require.NoError(t, err)
	f.kill(1, "failed")
	_, err = tasks.QueueMisbehave(f.ctx, "error", taskrt.ID("mine"))
	require.NoError(t, err)
	const why = "  mine (queue default): its id is that of a live run\n"
	require.Equal(t, "0 dead letters queued again, 1 stayed:\n"+why, f.stays(1, "dead", "retry", "--yes", "--task", "misbehave"))
	a := f.app("dead", "retry", "--yes", "--all", "--json")
	require.Equal(t, 1, a.code)
	require.JSONEq(t, `{"retried":0,"stayed":1,"looked":1,"stays":[{"id":"mine","queue":"default","why":"its id is that of a live run"}],"reasons":[{"why":"its id is that of a live run","count":1}]}`, a.stdout)
	require.Equal(t, "0 dead letters queued again, 1 stayed:\n"+why, f.stays(1, "dead", "retry", "mine"))
	require.Contains(t, f.stays(2, "dead", "retry", "mine", "nobody"), why+"  nobody: no dead letter has this id\n")
	require.Equal(t, "1 dead letter deleted\n", f.says("dead", "delete", "mine"))
}

// TestADeadLetterStaysForTheRunWithItsParameters, which is named.
func TestADeadLetterStaysForTheRunWithItsParameters(t *testing.T) {
	f := newFleet(t)
	s, err := f.broker.(broker.Leaser).OpenSession(f.ctx, time.Minute)
	require.NoError(t, err)
	dead, err := tasks.QueueRecorderOnce(f.ctx, "x", 1)
	require.NoError(t, err)
	runs, err := s.Take(f.ctx, broker.Want{Queues: []string{"default"}, IO: 1})
	require.NoError(t, err)
	_, err = s.Finish(f.ctx, broker.Outcome{Run: runs[0], Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
	require.NoError(t, err)
	require.NoError(t, s.Close(f.ctx))
	live, err := tasks.QueueRecorderOnce(f.ctx, "x", 1)
	require.NoError(t, err)
	require.Regexp(t, `^0 dead letters queued again, 1 stayed:\n  `+dead.ID+` \(queue default\): .*`+live.ID, f.stays(1, "dead", "retry", "--yes", "--kind", "failed"))
	require.Contains(t, f.stays(1, "dead", "retry", dead.ID), live.ID)
	require.NoError(t, live.Cancel(f.ctx))
	require.Equal(t, "1 dead letter queued again\n", f.says("dead", "retry", dead.ID))
}
