//go:build !windows

package taskapp_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// answer is what one command of the application printed.
type answer struct {
	stdout, stderr string
	code           int
}

// app executes a command of the application on the fleet's Redis.
func (f *fleet) app(args ...string) answer {
	f.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(f.ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), appEnv+"=1", brokerurl.Env+"="+f.server.URL())
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		require.NoError(f.t, err)
	}
	a := answer{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	for _, r := range a.stdout + a.stderr {
		require.True(f.t, r == '\n' || unicode.IsPrint(r), "%q reaches the terminal by %q: %q", r, args, a)
	}
	return a
}

// says executes a command that succeeds, and returns what it prints.
func (f *fleet) says(args ...string) string {
	f.t.Helper()
	a := f.app(args...)
	require.Zero(f.t, a.code, "%q: %s", args, a.stderr)
	require.Empty(f.t, a.stderr, args)
	return a.stdout
}

// refuses executes a command that ends with an error of one line.
func (f *fleet) refuses(code int, args ...string) string {
	f.t.Helper()
	a := f.app(args...)
	require.Equal(f.t, code, a.code, "%q: %s", args, a.stderr)
	require.Empty(f.t, a.stdout, args)
	require.Equal(f.t, 1, strings.Count(a.stderr, "\n"), a.stderr)
	return a.stderr
}

// tells executes a command with --json into v.
func (f *fleet) tells(v any, args ...string) {
	f.t.Helper()
	out := f.says(append(args, "--json")...)
	require.Equal(f.t, 1, strings.Count(out, "\n"), "one line of JSON")
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	require.NoError(f.t, d.Decode(v), out)
}

// The shapes of JSON that programs may rely on.
type (
	shownFailure struct{ Kind, Message, Stack string }
	shownRun     struct {
		ID, Task, Queue, State, Priority, Session string
		Attempts, Deliveries                      int
		QueuedAt                                  time.Time `json:"queued_at"`
		StartedAt                                 time.Time `json:"started_at"`
		EndedAt                                   time.Time `json:"ended_at"`
		Due                                       time.Time
		Took, Host                                string
		Failure                                   *shownFailure
		Unreadable                                bool
	}
	shownAttempt struct {
		StartedAt                  time.Time `json:"started_at"`
		Took, Host, Ended, Message string
	}
	shownRuns struct {
		Runs   []shownRun
		Looked int
		Total  *int64
		After  string
	}
	shownDetail struct {
		shownRun
		History  []shownAttempt
		Progress *struct {
			Done, Total int64
			Note        string
		}
		Expire, Keep, Parent, Root, Group, Gathers string
		Headers                                    map[string]string
		Params                                     map[string]any
		ParamsError                                string `json:"params_error"`
		Result                                     any
		ResultError                                string `json:"result_error"`
		Successors                                 []struct{ ID, Queue string }
	}
	shownQueue struct {
		Queue                                         string
		Queued, Held, Delayed, Running, Dead, Trimmed int64
		Oldest                                        time.Time
		Consumers                                     *int
		NoConsumer                                    bool `json:"no_consumer"`
		Paused                                        bool
		Disabled                                      []string
		Limits                                        []shownLimit
	}
	shownLimit struct {
		Key, Per  string
		Max, Used int
		Waiting   int64
	}
	shownTask struct {
		Task, Queue string
		Last        *struct {
			ID, Took, Ended string
			Started         time.Time
		}
	}
	shownTick struct {
		Task, Queue, ID, Rule, Zone, Why string
		Last, Next                       time.Time
		Overdue                          bool
	}
	shownStatus struct {
		Broker, Prefix string
		Queues         []shownQueue
		Tasks          []shownTask
		Schedules      []shownTick
	}
	shownChange struct {
		Matched, Cancelled, Retried, Deleted *int
		MadeDue                              *int `json:"made_due"`
		Stayed, Looked                       int
		Stays                                []struct{ ID, Queue, Why string }
		Outcomes                             []struct{ ID, Queue, Outcome string }
	}
)

// lists executes runs or dead list, and returns what it lists.
func (f *fleet) lists(args ...string) []shownRun {
	f.t.Helper()
	var got shownRuns
	f.tells(&got, args...)
	return got.Runs
}

// await asks again until it is so.
func (f *fleet) await(what string, so func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		require.True(f.t, time.Now().Before(deadline), "wait until %s", what)
		<-tick.C
	}
}

// state waits until a run that has a record is in a state.
func (f *fleet) state(id string, want taskrt.State, queue string) {
	f.t.Helper()
	f.await(fmt.Sprintf("run %s is %s", id, want), func() bool {
		record, err := f.broker.(broker.Records).Record(f.ctx, queue, id)
		require.NoError(f.t, err)
		return record.State == want
	})
}

// progress waits until a run that has a record has said how far it is.
func (f *fleet) progress(id, queue string) {
	f.t.Helper()
	f.await("run "+id+" has said how far it is", func() bool {
		record, err := f.broker.(broker.Records).Record(f.ctx, queue, id)
		require.NoError(f.t, err)
		return record.Progress != nil
	})
}

// last waits until the broker knows how a task ended last, and returns what
// status says of it.
func (f *fleet) last(task string) (last shownTask) {
	f.t.Helper()
	f.await("it is known how task "+task+" ended", func() bool {
		info, err := f.broker.(broker.Controls).Queue(f.ctx, "default")
		require.NoError(f.t, err)
		return info.Last[task].ID != ""
	})
	var s shownStatus
	f.tells(&s, "status")
	i := slices.IndexFunc(s.Tasks, func(t shownTask) bool { return t.Task == task && t.Last != nil })
	require.GreaterOrEqual(f.t, i, 0, task)
	return s.Tasks[i]
}

func TestStatusShowsQueuesAndHowTasksEnded(t *testing.T) {
	f := newFleet(t)
	f.queue(3)
	_, err := tasks.QueueEcho(f.ctx, "x", 1, taskrt.Delay(time.Hour), taskrt.OnQueue("elsewhere"))
	require.NoError(t, err)
	out := f.says("status")
	require.Regexp(t, `^broker redis://\S+, prefix taskgen\n\nQUEUE +QUEUED +HELD +DELAYED +RUNNING +DEAD +OLDEST +CONSUMERS +NOTES\n`, out)
	require.Regexp(t, `(?m)^default +3 +0 +0 +0 +0 +\S+ +0 +NO CONSUMER$`, out)
	require.Regexp(t, `(?m)^elsewhere +0 +0 +1 +0 +0 +- +0 +NO CONSUMER$`, out, "a queue that only the broker knows")
	require.Regexp(t, `(?m)^mail +0 +0 +0 +0 +0 +- +0 +-$`, out, "a queue that only the program knows")
	require.Regexp(t, `(?m)^recorder_record +default +- +- +-$`, out)

	bad, err := tasks.QueueMisbehave(f.ctx, "permanent")
	require.NoError(t, err)
	f.serve(0, "--consume")
	got := f.last("misbehave")
	require.Equal(t, bad.ID, got.Last.ID)
	require.Equal(t, "failed", got.Last.Ended)
	require.WithinDuration(t, time.Now(), got.Last.Started, time.Minute)
	took, err := time.ParseDuration(got.Last.Took)
	require.NoError(t, err)
	require.Positive(t, took)
	require.Equal(t, "succeeded", f.last("recorder_record").Last.Ended)
	require.Regexp(t, `(?m)^misbehave +default +\S+ ago +\S+ +failed$`, f.says("status"))

	var s shownStatus
	f.tells(&s, "status", "--queue", "default")
	require.Len(t, s.Queues, 1)
	require.NotNil(t, s.Queues[0].Consumers)
	s.Queues[0].Consumers = nil // it may not be up yet, or be stopping
	require.Equal(t, []shownQueue{{Queue: "default", Dead: 1, Disabled: []string{}}}, s.Queues)
	require.Contains(t, f.refuses(2, "status", "--queue", "defualt"), `no queue is named "defualt"; did you mean "default"?`)
}

func TestRunsAreListed(t *testing.T) {
	f := newFleet(t)
	f.queue(3)
	late, err := tasks.QueueEcho(f.ctx, "x", 1, taskrt.Delay(2*time.Hour), taskrt.WithPriority(taskrt.High))
	require.NoError(t, err)
	mail, err := tasks.QueueRecorderMail(f.ctx, "ada")
	require.NoError(t, err)

	out := f.says("runs")
	require.Regexp(t, `^ID +TASK +QUEUE +STATE +AGE +DUE +ATTEMPTS +TOOK +HOST +FAILURE\n`, out)
	require.Equal(t, 7, strings.Count(out, "\n"))
	require.Regexp(t, `(?m)^`+late.ID+` +echo +default +delayed +\S+ +in 1?\d+m +0 +- +- +-$`, out)
	require.Regexp(t, `(?m)^`+mail.ID+` +recorder_mail +mail +queued +\S+ +- +0 +- +- +-$`, out)
	require.Regexp(t, `\n5 runs in 4 queues\.\n$`, out)

	got := f.lists("runs", "--state", "delayed")
	require.Len(t, got, 1)
	require.WithinDuration(t, time.Now().Add(2*time.Hour), got[0].Due, time.Minute)
	require.WithinDuration(t, time.Now(), got[0].QueuedAt, time.Minute)
	require.Equal(t, "high", got[0].Priority)
	for args, want := range map[string]int{
		"--queue mail": 1, "--task recorder-record": 3, "--state queued --queue default": 3, "--state running": 0,
		"--task login": 0, "--limit 2": 2, "--state queued --task echo": 0,
	} {
		require.Len(t, f.lists(append([]string{"runs"}, strings.Fields(args)...)...), want, args)
	}
	require.Contains(t, f.says("runs", "--limit", "2"), " There are more; go on with\n  ")
	require.NotContains(t, f.says("runs", "--limit", "5"), "There are more")
	require.Contains(t, f.refuses(2, "runs", "--task", "recorder_recrod"), `did you mean "recorder_record"?`)
	require.Contains(t, f.refuses(2, "runs", "--queue", "nothing"), `no queue is named "nothing"; known are default, mail`)
}

func TestOneRunIsShownThroughItsLife(t *testing.T) {
	f := newFleet(t)
	login, err := tasks.QueueLogin(f.ctx, "ada", 271828)
	require.NoError(t, err)
	var d shownDetail
	f.tells(&d, "run", login.ID)
	require.Equal(t, map[string]any{"user": "ada", "pin": "***"}, d.Params)
	require.Equal(t, "queued", d.State)
	out := f.says("run", login.ID, "--queue", "default")
	require.Regexp(t, `(?m)^param +user: "ada"$`, out)
	require.Regexp(t, `(?m)^param +pin: "\*\*\*"$`, out)
	require.NotContains(t, out, "271828")
	require.Contains(t, f.refuses(1, "run", "nothing"), "no run nothing in the queues default, mail")
	require.Contains(t, f.refuses(1, "run", login.ID, "--queue", "mail"), "in queue mail:")

	echo, err := tasks.QueueEcho(f.ctx, "hi", 2)
	require.NoError(t, err)
	linger, err := tasks.QueueLinger(f.ctx, "so far")
	require.NoError(t, err)
	panics, err := tasks.QueueMisbehave(f.ctx, "panic")
	require.NoError(t, err)
	f.serve(0, "--consume")
	f.state(echo.ID, broker.StateSucceeded, "default")
	d = shownDetail{}
	f.tells(&d, "run", echo.ID)
	require.Equal(t, "hi", d.Result.(map[string]any)["Text"])
	require.Nil(t, d.Failure)
	require.Regexp(t, `(?m)^result +\{"Text":"hi","Parts":\["hi","hi"\]`, f.says("run", echo.ID))

	f.state(panics.ID, broker.StateFailed, "default")
	d = shownDetail{}
	f.tells(&d, "run", panics.ID)
	require.EqualValues(t, broker.FailureFailed, d.Failure.Kind)
	require.Contains(t, d.Failure.Message, "told to panic")
	require.Contains(t, d.Failure.Stack, "tasks.Misbehave")
	require.Equal(t, map[string]any{"how": "panic"}, d.Params)
	require.Equal(t, 2, d.Attempts)
	require.WithinDuration(t, time.Now(), d.EndedAt, time.Minute)
	out = f.says("run", panics.ID)
	require.Regexp(t, `(?m)^failure +failed: .*told to panic`, out)
	require.Regexp(t, `(?s)\nstack\n  .*tasks\.Misbehave`, out)

	f.state(linger.ID, broker.StateRunning, "default")
	f.progress(linger.ID, "default")
	d = shownDetail{}
	f.tells(&d, "run", linger.ID)
	require.Equal(t, "so far", d.Progress.Note)
	require.EqualValues(t, 1, d.Progress.Done)
	require.EqualValues(t, 4, d.Progress.Total)
	require.NotEmpty(t, d.Session)
	require.Equal(t, 1, d.Deliveries)
	require.Regexp(t, `(?m)^progress +1 of 4 so far$`, f.says("run", linger.ID))
	require.Regexp(t, `(?m)^`+linger.ID+` +linger +default +running +`, f.says("runs", "--state", "running"))
}

func TestCancelEndsRunsOfOtherProcesses(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	waiting, err := tasks.QueueLinger(f.ctx, "x", taskrt.Delay(time.Hour))
	require.NoError(t, err)
	unrecorded, err := tasks.QueueRecorderMail(f.ctx, "x")
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf("run %s of queue default: it was waiting, and has ended\n", waiting.ID), f.says("cancel", waiting.ID))
	require.Contains(t, f.refuses(1, "cancel", waiting.ID), fmt.Sprintf("cancel run %s: it has ended in queue default: cancelled", waiting.ID))
	var got shownChange
	f.tells(&got, "cancel", unrecorded.ID)
	require.Equal(t, 1, *got.Cancelled)
	require.Equal(t, []struct{ ID, Queue, Outcome string }{{unrecorded.ID, "mail", "ended"}}, got.Outcomes)
	require.Contains(t, f.refuses(1, "cancel", unrecorded.ID), "no run of this id waits or runs in the queues default, mail")
	require.Contains(t, f.refuses(1, "cancel", "nothing"), "cancel run nothing: no run of this id waits or runs in the queues default, mail")

	io, err := tasks.QueueLinger(f.ctx, "io")
	require.NoError(t, err)
	cpu, err := tasks.QueueBrood(f.ctx, "cpu")
	require.NoError(t, err)
	f.serve(0, "--consume")
	for _, id := range []string{io.ID, cpu.ID} {
		f.state(id, broker.StateRunning, "default")
		require.Equal(t, fmt.Sprintf("run %s of queue default: it runs, and its consumer was asked to end it\n", id), f.says("cancel", id))
		f.state(id, broker.StateCancelled, "default")
		var d shownDetail
		f.tells(&d, "run", id)
		require.EqualValues(t, broker.FailureCancelled, d.Failure.Kind)
		require.WithinDuration(t, time.Now(), d.EndedAt, time.Minute)
	}
	require.Equal(t, "cancelled", f.last("brood").Last.Ended)
	require.Len(t, f.lists("runs", "--state", "cancelled"), 3)
	require.Empty(t, f.lists("dead", "list"), "no dead letter is kept of them")
}

func TestCancelDoesNotChooseBetweenQueues(t *testing.T) {
	f := newFleet(t)
	for _, queue := range []string{"default", "mail"} {
		_, err := tasks.QueueLinger(f.ctx, "x", taskrt.ID("mine"), taskrt.OnQueue(queue), taskrt.Delay(time.Hour))
		require.NoError(t, err)
	}
	require.Contains(t, f.refuses(2, "cancel", "mine"), "the queues default and mail have a run of this id each; name one with --queue")
	require.Contains(t, f.refuses(2, "run", "mine"), "name one with --queue")
	var got shownChange
	f.tells(&got, "cancel", "mine", "--queue", "mail")
	require.Equal(t, "mail", got.Outcomes[0].Queue)
	f.tells(&got, "cancel", "mine")
	require.Equal(t, "default", got.Outcomes[0].Queue, "the other has ended")
}

func TestPauseAndDisableSayWhatIsNowSo(t *testing.T) {
	f := newFleet(t)
	f.queue(2)
	require.Equal(t, "queue default is paused: 2 queued, 0 delayed, 0 running\n", f.says("pause", "default"))
	require.Equal(t, "task recorder_mail is disabled in queue mail\n", f.says("disable", "recorder-mail"))
	var off struct {
		Task, Queue string
		Disabled    bool
	}
	f.tells(&off, "disable", "recorder_mail", "--queue", "default")
	require.Equal(t, "default", off.Queue)
	require.True(t, off.Disabled)
	require.Regexp(t, `(?m)^default +2 +0 +0 +0 +0 +\S+ +0 +NO CONSUMER; paused; disabled: recorder_mail$`, f.says("status"))

	f.serve(0, "--consume")
	mail, err := tasks.QueueRecorderMail(f.ctx, "ada")
	require.NoError(t, err)
	echo, err := tasks.QueueEcho(f.ctx, "x", 1, taskrt.OnQueue("mail"))
	require.NoError(t, err)
	f.state(echo.ID, broker.StateSucceeded, "mail") // so mail is consumed, and was when this was queued
	starts, _ := f.counts()
	require.Empty(t, starts, "what is stopped is not handed out")
	require.Regexp(t, `(?m)^`+mail.ID+` +recorder_mail +mail +queued `, f.says("runs", "--queue", "mail"))

	var queue shownQueue
	f.tells(&queue, "resume", "default")
	require.False(t, queue.Paused)
	require.Equal(t, []string{"recorder_mail"}, queue.Disabled)
	require.Equal(t, "task recorder_mail is enabled in queue mail\n", f.says("enable", "recorder_mail"))
	f.drained(3, 20*time.Second)

	require.Contains(t, f.refuses(2, "pause", "mial"), `no queue is named "mial"; did you mean "mail"?`)
	require.Contains(t, f.refuses(2, "enable", "recorder-mial"), `did you mean "recorder_mail"?`)
	require.Contains(t, f.refuses(2, "disable", "echo", "--queue", "nowhere"), `no queue is named "nowhere"; known are default, mail`)

	// A task that the program has no more can still be enabled.
	require.NoError(t, f.broker.(broker.Controls).Disable(f.ctx, "mail", "gone", true))
	require.Equal(t, "task gone is enabled in queue mail\n", f.says("enable", "gone"))
	require.Contains(t, f.refuses(2, "enable", "gone"), `no task is named "gone"`)
}

// TestNothingStoredReachesTheTerminalRaw: app holds what every command prints
// against what a terminal may have.
func TestNothingStoredReachesTheTerminalRaw(t *testing.T) {
	f := newFleet(t)
	const hostile = "a\x1b[2J\u009b31m\u202e\x07\r\n\tb\U000e0041"
	client := taskrt.NewClient(f.broker, taskrt.ClientConfig{})
	_, err := tasks.QueueLogin(taskrt.WithClient(f.ctx, client), hostile, 1, taskrt.ID("login"))
	require.NoError(t, err)
	_, err = tasks.QueueMisbehave(f.ctx, hostile, taskrt.ID("bad"))
	require.NoError(t, err)
	_, err = tasks.QueueLinger(f.ctx, hostile, taskrt.ID("linger"), taskrt.OnQueue("mail"))
	require.NoError(t, err)
	_, err = tasks.QueueEcho(f.ctx, hostile, 1, taskrt.ID("echo"), taskrt.OnQueue("mail"))
	require.NoError(t, err)
	require.NoError(t, f.broker.QueueTasks(f.ctx, &broker.TaskRun{
		ID: "strange", Task: "unknown", Queue: "other", Payload: []byte(hostile), Headers: map[string]string{hostile: hostile}, QueuedAt: time.Now(),
	}))
	// Parameters that do not fit, with a secret among them, and what is no run.
	require.NoError(t, f.broker.QueueTasks(f.ctx, &broker.TaskRun{
		ID: "misfit", Task: "login", Queue: "other", Payload: []byte("\x82\xa4user\xa3ada\xa3pin\xa6271828"), QueuedAt: time.Now(),
	}))
	_, err = f.server.Do("RPUSH", "taskgen:{default}:io:1", hostile)
	require.NoError(t, err)
	shows := func(want string, args ...string) {
		t.Helper()
		require.Contains(t, f.says(args...), want, args)
		require.True(t, json.Valid([]byte(f.says(append(args, "--json")...))), args)
	}
	shows(`user: "a\u001b[2J\u009b31m\u202e\u0007\r\n\tb\udb40\udc41"`, "run", "login")
	shows(`a\x1b[2J\u009b31m\u202e\a\r\n\tb\U000e0041`, "run", "strange")
	shows("bytes of a task that this program does not have", "run", "strange")
	shows("params    they do not fit the task\n", "run", "misfit")
	require.NotContains(t, f.says("run", "misfit", "--json"), "271828")
	f.serve(0, "--consume")
	f.state("bad", broker.StateFailed, "default")
	f.state("echo", broker.StateSucceeded, "mail")
	f.state("linger", broker.StateRunning, "mail")
	shows(`no such way to misbehave: a\x1b[2J`, "dead", "list")
	shows(`no such way to misbehave: a\x1b[2J`, "run", "bad")
	var dead []shownRun
	f.await("what is no run is dead", func() bool { dead = f.lists("dead", "list", "--kind", "schema"); return len(dead) == 1 })
	shows(fmt.Sprintf("the run is %d bytes that cannot be read", len(hostile)), "run", dead[0].ID)
	shows("-     default  schema", "dead", "list", "--kind", "schema")
	shows(`"Text":"a\u001b[2J`, "run", "echo")
	f.progress("linger", "mail")
	shows(`1 of 4 a\x1b[2J`, "run", "linger")
	require.Contains(t, f.refuses(2, "run", hostile), "not printable ASCII")
	require.Contains(t, f.refuses(2, hostile), "unknown command")
	require.Contains(t, f.refuses(2, "pause", hostile), "no queue is named")
	require.Contains(t, f.refuses(2, "runs", "--"+hostile), "unknown flag")
	require.Contains(t, f.refuses(1, "queue", "misbehave", "--how", hostile, "--wait"), "no such way to misbehave")
}
