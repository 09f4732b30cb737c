//go:build !windows

package taskapp_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestAllThatIsChosenIsCancelled(t *testing.T) {
	f := newFleet(t)
	const many = 1500 // more than a page
	_, err := tasks.QueueRecorderRecordBatch(f.ctx, make([]tasks.RecorderRecordParams, many))
	require.NoError(t, err)
	_, err = tasks.QueueEchoBatch(f.ctx, make([]tasks.EchoParams, 3), taskrt.OnQueue("mail"), taskrt.Delay(time.Hour))
	require.NoError(t, err)

	require.Equal(t, "1500 runs match; nothing was changed\n", f.says("cancel", "--task", "recorder-record", "--dry-run"))
	var got shownChange
	f.tells(&got, "cancel", "--all", "--dry-run")
	require.Equal(t, many+3, *got.Matched)
	require.Nil(t, got.Cancelled)
	require.Contains(t, f.refuses(2, "cancel", "--all"), "cancel: nobody is there to be asked; --yes changes all that is chosen, --dry-run counts it")
	require.Equal(t, "0 runs cancelled\n", f.says("cancel", "--older", "1h", "--yes"))
	require.Equal(t, "0 runs cancelled\n", f.says("cancel", "--error", "smtp", "--yes"))
	require.Equal(t, "0 runs cancelled\n", f.says("cancel", "--state", "running", "--yes"))
	require.Contains(t, f.refuses(2, "cancel", "--task", "recorder_recrod", "--yes"), `did you mean "recorder_record"?`)
	require.Equal(t, "1500 runs cancelled\n", f.says("cancel", "--task", "recorder-record", "--yes"))

	late := f.lists("runs", "--state", "delayed")
	require.Len(t, late, 3)
	require.Equal(t, "1 run matches; nothing was changed\n", f.says("cancel", "--key", late[0].ID, "--dry-run"))
	require.Equal(t, "1 delayed run made due\n", f.says("runs", "now", late[0].ID))
	f.tells(&got, "runs", "now", "--tag", "demo", "--queue", "mail", "--yes")
	require.Equal(t, 2, *got.MadeDue)
	require.Len(t, f.lists("runs", "--state", "queued", "--queue", "mail"), 3)
	require.Equal(t, "0 delayed runs made due, 1 stayed:\n  "+late[0].ID+": no delayed run has this id\n", f.stays(1, "runs", "now", late[0].ID))

	a := f.app("cancel", late[1].ID, "nobody", late[2].ID)
	require.Equal(t, 1, a.code)
	require.Equal(t, 2, strings.Count(a.stdout, "of queue mail: it was waiting, and has ended\n"))
	require.Contains(t, a.stdout, "\nrun nobody stays: no run of this id waits or runs in the queues default, mail")
	require.Contains(t, a.stderr, ": cancel: 1 of 3 runs stayed, as said above\n")
}

func TestAListGoesOnWhereItEnded(t *testing.T) {
	f := newFleet(t)
	want := map[string]bool{}
	for n := range 25 {
		handle, err := tasks.QueueEcho(f.ctx, "x", n, taskrt.OnQueue(fmt.Sprintf("queue-%d", n%4)))
		require.NoError(t, err)
		want[handle.ID] = true
	}
	f.queue(5)
	for after, pages := "", 1; ; pages++ {
		args := []string{"runs", "--task", "echo", "--limit", "10"}
		if after != "" {
			args = append(args, "--after", after)
		}
		var page shownRuns
		f.tells(&page, args...)
		require.LessOrEqual(t, len(page.Runs), 10)
		require.NotZero(t, page.Looked)
		for _, run := range page.Runs {
			require.True(t, want[run.ID], "once")
			delete(want, run.ID)
		}
		if after = page.After; after == "" {
			require.Equal(t, 3, pages)
			break
		}
	}
	require.Empty(t, want)
	// The last line is the command that goes on.
	out := strings.TrimRight(f.says("runs", "--task", "echo", "--queue", "queue-1", "--limit", "4"), "\n")
	words := strings.Fields(out[strings.LastIndex(out, "\n"):])
	require.Equal(t, []string{"runs", "--queue", "queue-1", "--task", "echo", "--limit", "4", "--after"}, words[1:9])
	require.Contains(t, f.says(words[1:]...), "\n2 runs; looked at 2 in queue queue-1.\n")
	require.Contains(t, f.refuses(2, "runs", "--after", "nonsense"), "runs: --after is not where a list of this kind, and of these queues, ended")
	require.Contains(t, f.refuses(2, "dead", "list", "--after", words[9]), "dead list: --after is not where")
	require.Equal(t, "No run matches; looked at 30 in 8 queues.\n", f.says("runs", "--error", "smtp"))
	for _, kind := range []taskrt.FailureKind{taskrt.Lost, taskrt.Duplicate} { // no dead letter has these, but records have
		require.Equal(t, "No run matches; looked at 30 in 8 queues.\n", f.says("runs", "--kind", string(kind)))
	}
	require.Contains(t, f.says("runs", "--queue", "sums"), "No run waits, runs or has a record in queue sums. ")
}

func TestConsumersSaysWhoIsUp(t *testing.T) {
	f := newFleet(t)
	require.Contains(t, f.says("consumers"), "No consumer and no scheduler is up for the queues default, mail, shared, sums. ")
	type instance struct {
		ID, Host, Version, Address, Session string
		PID                                 int
		Started, Seen                       time.Time
		Stopping                            bool
		Queues                              []struct {
			Queue  string
			Weight int
		}
		MoreQueues int `json:"more_queues"`
		IO, CPU    *struct{ Busy, Total int }
		Children   *int
	}
	var up struct{ Consumers, Schedulers []instance }
	p := f.serve(0, "--queues", "default=3,mail")
	defer func() { _ = p.end(syscall.SIGKILL) }()
	f.await("both are up", func() bool {
		f.tells(&up, "consumers")
		return len(up.Consumers) == 1 && len(up.Schedulers) == 1
	})
	c := up.Consumers[0]
	require.Equal(t, p.cmd.Process.Pid, c.PID)
	require.WithinDuration(t, time.Now(), c.Started, time.Minute)
	require.WithinDuration(t, time.Now(), c.Seen, time.Minute)
	require.Equal(t, "default", c.Queues[0].Queue)
	require.Equal(t, 3, c.Queues[0].Weight)
	require.Positive(t, c.IO.Total)
	require.NotNil(t, c.Children)
	out := f.says("consumers")
	require.Regexp(t, fmt.Sprintf(`(?m)^consumer +\S+ +%d +\S+ +\S+ +\S+ ago +\d+/\d+ +\d+/\d+ +\d+ +default=3, mail +-$`, p.cmd.Process.Pid), out)
	require.Regexp(t, fmt.Sprintf(`(?m)^scheduler +\S+ +%d +`, p.cmd.Process.Pid), out)
	require.Contains(t, out, "\n1 consumer, 1 scheduler. ")
	require.Contains(t, f.says("consumers", "--queue", "sums"), "No consumer and no scheduler is up for queue sums. ")

	linger, err := tasks.QueueLinger(f.ctx, "x")
	require.NoError(t, err)
	f.state(linger.ID, broker.StateRunning, "default")
	host := fmt.Sprintf("%s:%d", c.Host, c.PID)
	require.Equal(t, host, f.lists("runs", "--state", "running")[0].Host)
	var d shownDetail
	f.tells(&d, "run", linger.ID)
	require.Equal(t, host, d.Host)
	var s shownStatus
	f.tells(&s, "status")
	for _, q := range s.Queues {
		require.False(t, q.NoConsumer, q.Queue)
	}
}

func TestStatusNamesWhatIsOverdue(t *testing.T) {
	f := newFleet(t)
	hourAgo := time.Now().Add(-time.Hour).Truncate(time.Second)
	_, err := f.broker.(broker.Ticks).BeginTicks(f.ctx, "default", "recorder_tick", hourAgo)
	require.NoError(t, err)
	require.Regexp(t, `(?m)^recorder_tick +default +every 1s +60m ago +OVERDUE by 60m: no scheduler is up$`, f.says("status"))
	require.Regexp(t, `(?m)^recorder_hourly +default +every 1h0m0s +- +OVERDUE: no scheduler is up$`, f.says("status"), "it never ticked")
	var s shownStatus
	f.tells(&s, "status")
	require.Equal(t, "taskgen", s.Prefix)
	require.Len(t, s.Schedules, 2)
	require.True(t, s.Schedules[1].Overdue)
	require.True(t, s.Schedules[1].Last.Equal(hourAgo))
	require.True(t, s.Schedules[1].Next.Equal(hourAgo.Add(time.Second)))
	p := f.serve(0)
	f.await("nothing is overdue", func() bool { return !strings.Contains(f.says("status"), "OVERDUE") })
	require.Contains(t, p.log.String(), " prefix=taskgen ")
}

func TestQueueSaysWhereAndWhen(t *testing.T) {
	f := newFleet(t)
	at := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Second)
	f.says("queue", "echo", "--text", "x", "--times", "1", "--id", "mine", "--queue", "elsewhere", "--priority", "low",
		"--at", at.Format(time.RFC3339), "--header", "a=b=c", "--header", "d=")
	var d shownDetail
	f.tells(&d, "run", "mine")
	require.Equal(t, "elsewhere", d.Queue)
	require.Equal(t, "low", d.Priority)
	require.WithinDuration(t, at, d.Due, time.Second)
	require.Equal(t, map[string]string{"a": "b=c", "d": ""}, d.Headers)
	a := f.app("queue", "echo", "--text", "x", "--times", "1", "--id", "waited", "--wait=100ms", "--json")
	require.Equal(t, 1, a.code)
	require.JSONEq(t, `{"id":"waited","task":"echo","queue":"default"}`, a.stdout)
	require.Contains(t, a.stderr, "wait for run waited: it has not ended within 100ms; the run stays queued, or goes on\n")
}

func TestARunIsShownWithItsAttemptsAndLongValuesCut(t *testing.T) {
	f := newFleet(t)
	long := strings.Repeat("héllo ", 2000)
	big, err := tasks.QueueEcho(f.ctx, long, 1, taskrt.Delay(time.Hour))
	require.NoError(t, err)
	out := f.says("run", big.ID)
	require.Regexp(t, `(?m)^param +text: "héllo .*… \(14,002 bytes; --full shows all\)$`, out)
	require.Less(t, len(out), 2000)
	require.Contains(t, f.says("run", big.ID, "--full"), long)
	var d shownDetail
	f.tells(&d, "run", big.ID)
	require.Equal(t, long, d.Params["text"])

	bad, err := tasks.QueueMisbehave(f.ctx, "error")
	require.NoError(t, err)
	f.serve(0, "--consume")
	f.state(bad.ID, broker.StateFailed, "default")
	d = shownDetail{}
	f.tells(&d, "run", bad.ID)
	require.Len(t, d.History, 2)
	for _, a := range d.History {
		require.Equal(t, "failed", a.Ended)
		require.Equal(t, "told to fail", a.Message)
		require.NotEmpty(t, a.Host)
		require.WithinDuration(t, time.Now(), a.StartedAt, time.Minute)
	}
	require.Regexp(t, `\n\nSTARTED +TOOK +HOST +ENDED +MESSAGE\n(\S+ +\S+ +\S+:\d+ +failed +told to fail\n){2}`, f.says("run", bad.ID))
	require.Regexp(t, `(?m)^`+bad.ID+` +misbehave +default +failed +\S+ +- +2 +\S+ +\S+:\d+ +failed: told to fail$`, f.says("runs", "--state", "failed"))
	require.Len(t, f.lists("runs", "--error", "TOLD to"), 1)
	require.Len(t, f.lists("dead", "list", "--error", "TOLD to"), 1)
}
