//go:build !windows

package taskapp_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// shownOutcome is what exec and queue --wait print.
type shownOutcome struct {
	ID, Task, State string
	Result          any
	Failure         *shownFailure
}

func TestQueueSaysHowTheRunEnded(t *testing.T) {
	f := newFleet(t)
	f.serve(0, "--consume")
	var got shownOutcome
	out := f.says("queue", "labelled", "--id", "7", "--queue.id", "mine", "--wait", "--json", "j", "--help", "me",
		"--data-ids", `["a","b"]`, "--queue.wait", "--queue.json", "--title", "t")
	require.NoError(t, json.Unmarshal([]byte(out), &got), out)
	require.Equal(t, shownOutcome{ID: "mine", Task: "labelled", State: "succeeded", Result: "7 true j me [a b] none 3 t"}, got)

	a := f.app("queue", "misbehave", "--how", "permanent", "--wait", "--json")
	require.Equal(t, 1, a.code)
	require.Regexp(t, `: run \S+ of task misbehave: failed after 1 attempt: told to fail for good\n$`, a.stderr)
	got = shownOutcome{}
	require.NoError(t, json.Unmarshal([]byte(a.stdout), &got), a.stdout)
	require.Equal(t, shownOutcome{ID: got.ID, Task: "misbehave", State: "failed", Failure: &shownFailure{"failed", "told to fail for good", ""}}, got)
	var d shownDetail
	f.tells(&d, "run", got.ID)
	require.Equal(t, got.Failure, d.Failure, "run says the same")
	require.Contains(t, f.refuses(1, "queue", "misbehave", "--how", "permanent", "--wait"), "told to fail for good")

	require.Equal(t, "3\n", f.says("queue", "spread", "--numbers", "[2,4]", "--wait"), "the result of the call that it returns")
	require.Equal(t, "2\n", f.says("queue", "give", "--form", "chain", "--n", "8", "--id", "gave", "--wait"))
	var gave shownDetail
	f.tells(&gave, "run", "gave")
	require.Len(t, gave.Successors, 2)
	require.Equal(t, "default", gave.Successors[1].Queue)
	require.Empty(t, gave.ResultError, "the last successor has the result")
	require.Regexp(t, "(?m)^result +2$", f.says("run", gave.Successors[1].ID))
	require.Regexp(t, "(?m)^successor +"+gave.Successors[0].ID+" in queue default$", f.says("run", "gave"))
	require.Contains(t, f.refuses(1, "queue", "give", "--form", "chain", "--n", "2", "--wait"), "of task half: failed after 1 attempt: 1 is odd")
}

// TestAWaitThatIsInterruptedLeavesTheRun: what was queued is known all the same.
func TestAWaitThatIsInterruptedLeavesTheRun(t *testing.T) {
	f := newFleet(t)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(os.Args[0], "queue", "linger", "--note", "x", "--id", "mine", "--wait", "--json", "--broker", f.server.URL())
	cmd.Env = append(os.Environ(), appEnv+"=1")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	f.await("the run is queued", func() bool {
		lengths, err := f.broker.QueueLength(f.ctx)
		require.NoError(t, err)
		return lengths["default"] == 1
	})
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, stderr.String(), "wait for run mine: interrupted; the run stays queued, or goes on\n")
	require.JSONEq(t, `{"id":"mine","task":"linger","queue":"default"}`, stdout.String())
	var d shownDetail
	f.tells(&d, "run", "mine")
	require.Equal(t, "queued", d.State)
}

func TestARunThatIsToFollowIsNotKnownYet(t *testing.T) {
	f := newFleet(t)
	next, err := taskrt.Then(tasks.CallSquare(4), tasks.NextHalf()).Queue(f.ctx)
	require.NoError(t, err)
	require.Contains(t, f.refuses(1, "run", next.ID), "one that is to follow another is not known before that has succeeded\n")
	require.Contains(t, f.refuses(1, "cancel", next.ID), "one that is to follow another is not known before that has succeeded, so cancel that\n")
}

// shownSchedule is a schedule made at run time.
type shownSchedule struct {
	ID, Queue, Rule, Zone string
	Since, Last, Next     time.Time
}

func TestSchedulesMadeAtRunTimeAreListed(t *testing.T) {
	f := newFleet(t)
	require.NotContains(t, f.says("list"), "Made at run time")
	made, err := taskrt.Schedule(f.ctx, "0 9 * * *", "Europe/Rome", tasks.CallRecorderMail("ada"), taskrt.ID("digest"))
	require.NoError(t, err)
	_, err = taskrt.Schedule(f.ctx, "@every 10m", "", tasks.CallRecorderMail("ada"), taskrt.ID("often"), taskrt.OnQueue("slow"))
	require.NoError(t, err)
	// One of a task that the program has no more, and of a rule that it cannot read.
	require.NoError(t, f.broker.(broker.ScheduleStore).PutSchedule(f.ctx, &broker.Schedule{
		ID: "odd", Spec: "at \x1b[2Jdawn", Run: &broker.TaskRun{ID: "odd", Task: "gone", Queue: "default", QueuedAt: time.Now()},
	}))
	out := f.says("list")
	require.Regexp(t, `(?m)^brood +cpu `, out)
	require.Regexp(t, `(?m)^ID +TASK +QUEUE +SCHEDULE +NEXT$`, out)
	require.Regexp(t, `(?m)^digest +recorder_mail +mail +0 9 \* \* \* \(Europe/Rome\) +`+made.Next.Format(`2006-01-02T15:04:05`)+`\+0\d:00$`, out)
	require.Regexp(t, `(?m)^often +recorder_mail +slow +@every 10m +\S+Z$`, out)
	require.Regexp(t, `(?m)^odd +gone +default +at \\x1b\[2Jdawn +-$`, out)

	var infos []struct {
		Name      string
		Unknown   bool
		Schedules []shownSchedule
	}
	require.NoError(t, json.Unmarshal([]byte(f.says("list", "--json")), &infos))
	listed := make(map[string][]shownSchedule)
	for _, i := range infos {
		if i.Schedules != nil {
			listed[i.Name] = i.Schedules
		}
		require.Equal(t, i.Name == "gone", i.Unknown, i.Name)
	}
	require.Len(t, listed, 2)
	require.Equal(t, "odd", listed["gone"][0].ID)
	require.Zero(t, listed["gone"][0].Next)
	digest := listed["recorder_mail"][0]
	require.Equal(t, "mail", digest.Queue)
	require.Equal(t, "0 9 * * *", digest.Rule)
	require.Equal(t, "Europe/Rome", digest.Zone)
	require.WithinDuration(t, time.Now(), digest.Since, time.Minute)
	require.True(t, digest.Next.Equal(made.Next), digest.Next)
	require.Equal(t, "often", listed["recorder_mail"][1].ID)

	// The coming ticks of all; those of one made at run time begin with it.
	var ticks []struct {
		Task, ID, Queue string
		At              time.Time
	}
	f.tells(&ticks, "list", "--next", "2", "--from", "2101-03-26")
	require.Len(t, ticks, 8)
	var digests []string
	for _, tick := range ticks {
		if tick.ID == "digest" {
			require.Equal(t, "recorder_mail", tick.Task)
			require.Equal(t, "mail", tick.Queue)
			digests = append(digests, tick.At.Format(time.RFC3339))
		}
	}
	require.Equal(t, []string{"2101-03-26T09:00:00+01:00", "2101-03-27T09:00:00+02:00"}, digests)
	require.Contains(t, f.says("list", "--from", "2101-03-26"), "2101-03-26T09:00:00+01:00  recorder_mail  digest (queue mail)\n")
	f.tells(&ticks, "list", "--from", "2001-01-01")
	for _, tick := range ticks {
		require.Equal(t, tick.ID != "", tick.At.After(digest.Since), tick)
	}
}

// TestJSONHasTheFieldsThatAreDocumented: programs rely on what docs/commands.md
// says, so nothing is printed that it does not name.
func TestJSONHasTheFieldsThatAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/commands.md")
	require.NoError(t, err)
	_, documented, found := strings.Cut(string(doc), "\n## JSON\n")
	require.True(t, found)
	f := newFleet(t)
	_, err = taskrt.Schedule(f.ctx, "0 9 * * *", "Europe/Rome", tasks.CallRecorderMail("ada"))
	require.NoError(t, err)
	late, err := tasks.QueueEcho(f.ctx, "x", 1, taskrt.Delay(time.Hour), taskrt.Keep(time.Hour), taskrt.Header("k", "v"))
	require.NoError(t, err)
	dead := f.die(2, "timeout")
	f.serve(0, "--consume")
	linger, err := tasks.QueueLinger(f.ctx, "so far")
	require.NoError(t, err)
	f.progress(linger.ID, "default")

	var check func(v any, args []string)
	check = func(v any, args []string) {
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				check(one, args)
			}
		case map[string]any:
			for key, one := range v {
				require.Contains(t, documented, "`"+key+"`", "%q prints it", args)
				if key != "params" && key != "result" && key != "headers" { // the application's own
					check(one, args)
				}
			}
		}
	}
	for _, c := range []struct {
		code int
		args []string
	}{
		{0, []string{"list"}},
		{0, []string{"list", "--next", "1"}},
		{0, []string{"exec", "echo", "--text", "x", "--times", "1"}},
		{1, []string{"exec", "misbehave", "--how", "panic"}},
		{0, []string{"queue", "echo", "--text", "x", "--times", "1", "--delay", "1h"}},
		{0, []string{"queue", "echo", "--text", "x", "--times", "1", "--wait"}},
		{1, []string{"queue", "misbehave", "--how", "permanent", "--wait"}},
		{0, []string{"status"}},
		{0, []string{"runs"}},
		{0, []string{"run", late.ID}},
		{0, []string{"run", linger.ID}},
		{0, []string{"run", dead[0]}},
		{0, []string{"consumers"}},
		{0, []string{"cancel", "--all", "--dry-run"}},
		{0, []string{"runs", "now", late.ID}},
		{0, []string{"cancel", "--task", "echo", "--yes"}},
		{0, []string{"dead", "list"}},
		{0, []string{"dead", "retry", dead[0]}},
		{0, []string{"dead", "delete", dead[1]}},
		{0, []string{"pause", "mail"}},
		{0, []string{"resume", "mail"}},
		{0, []string{"disable", "echo"}},
		{0, []string{"enable", "echo"}},
	} {
		a := f.app(append(c.args, "--json")...)
		require.Equal(t, c.code, a.code, "%q: %s", c.args, a.stderr)
		require.Equal(t, c.code, strings.Count(a.stderr, "\n"), "%q: %s", c.args, a.stderr)
		require.Equal(t, 1, strings.Count(a.stdout, "\n"), "%q: %s", c.args, a.stdout)
		var v any
		require.NoError(t, json.Unmarshal([]byte(a.stdout), &v), c.args)
		check(v, c.args)
	}
}
