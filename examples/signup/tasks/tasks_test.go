package tasks_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/examples/signup/tasks"
	"github.com/taskgen/taskgen/examples/signup/tasks/taskstest"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/tasktest"
)

// The children of this test binary serve these tasks.
var _ = tasktest.ServeChild(tasks.Tasks())

func TestSigningUpQueuesAWelcomeAndAReminder(t *testing.T) {
	q := taskstest.New(t)
	require.Error(t, tasks.SignUp(q.Context(), "", "x"))
	q.SendMail.NotQueued(t)
	require.NoError(t, tasks.SignUp(q.Context(), "ada", "secret"))
	q.SendMail.Queued(t, tasks.SendMailParams{To: "ada", Template: "welcome", Password: "secret"})
	q.Remind.QueuedWhere(t, func(p *tasks.RemindParams) bool { return p.Name == "ada" }, taskstest.In(24*time.Hour))
	q.Count.NotQueued(t)
	q.Drain(t)
	q.Count.Queued(t, tasks.CountParams{Template: "welcome"})
}

func TestTheReminderComesADayLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := taskstest.New(t)
		q.Report.Returns(taskrt.None{}, nil)
		require.NoError(t, tasks.SignUp(q.Context(), "ada", "secret"))
		q.Advance(t, 23*time.Hour)
		require.Len(t, q.SendMail.Runs(t), 1)
		q.Advance(t, time.Hour)
		q.SendMail.Queued(t, tasks.SendMailParams{To: "ada", Template: "reminder"})
	})
}

func TestTheReminderComesADayLaterWithoutABubble(t *testing.T) {
	q := taskstest.New(t)
	q.Report.Returns(taskrt.None{}, nil)
	require.NoError(t, tasks.SignUp(q.Context(), "ada", "secret"))
	q.Advance(t, 24*time.Hour)
	q.SendMail.Queued(t, tasks.SendMailParams{To: "ada", Template: "reminder"})
}

func TestABouncedMailIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := taskstest.New(t, tasktest.AllowFailures())
		_, err := tasks.QueueSendMail(q.Context(), "bounce@example.com", "welcome", "")
		require.NoError(t, err)
		q.Drain(t)
		require.Len(t, q.Failures(), 1)
		q.Advance(t, 3*time.Hour)
		require.Len(t, q.Failures(), 4)
	})
}

func TestAFunctionIsReplaced(t *testing.T) {
	q := taskstest.New(t)
	q.Count.Returns(42, nil)
	h, err := tasks.QueueCount(q.Context(), "welcome")
	require.NoError(t, err)
	q.Drain(t)
	n, err := h.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, 42, n)
}

// TestCPUTasksRunInTheTestsProcess and the next differ in one option.
func TestCPUTasksRunInTheTestsProcess(t *testing.T) { draw(t, taskstest.New(t)) }

func TestCPUTasksRunInChildren(t *testing.T) { draw(t, taskstest.New(t, tasktest.Children())) }

func draw(t *testing.T, q *taskstest.Kit) {
	h, err := tasks.QueueDraw(q.Context(), 7)
	require.NoError(t, err)
	q.Drain(t)
	n, err := h.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, 49, n)
}

// TestAYearOfReports crosses both nights on which Rome's clocks change: 02:30 comes twice on
// one, and not at all on the other.
func TestAYearOfReports(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		q := taskstest.New(t)
		q.SendMail.Returns(taskrt.None{}, nil)
		q.Advance(t, 366*24*time.Hour) // 2000 is a leap year
		reports := q.Report.Runs(t)
		require.Len(t, reports, 366)
		at := func(day int) string { _, tick, _ := strings.Cut(reports[day-1].ID, "@"); return tick }
		require.Equal(t, "2000-03-25T01:30:00Z", at(85))
		require.Equal(t, "2000-03-26T01:00:00Z", at(86), "02:30 does not exist: three o'clock in its place")
		require.Equal(t, "2000-03-27T00:30:00Z", at(87))
		require.Equal(t, "2000-10-29T00:30:00Z", at(303), "02:30 comes twice: the first")
		require.Equal(t, "2000-10-30T01:30:00Z", at(304))
	})
	t.Log("took", time.Since(began))
}

func TestFaults(t *testing.T) {
	faults := map[string]struct {
		inject func(*taskstest.Kit)
		calls  int
	}{
		"none":   {func(*taskstest.Kit) {}, 1},
		"crash":  {func(q *taskstest.Kit) { q.Crash(t, nil) }, 1},
		"twice":  {func(q *taskstest.Kit) { q.LoseLease(t, nil) }, 2},
		"outage": {func(q *taskstest.Kit) { q.Down(t, time.Minute) }, 1},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := taskstest.New(t)
				calls := 0
				q.Count.Does(func(context.Context, *tasks.CountParams) (int, error) { calls++; return calls, nil })
				_, err := tasks.QueueCount(q.Context(), "x")
				require.NoError(t, err)
				fault.inject(q)
				q.Advance(t, time.Hour)
				require.Equal(t, fault.calls, calls)
			})
		})
	}
}

func TestThatMemoryIsUnsupportedIsTold(t *testing.T) {
	q := taskstest.New(t)
	_, err := tasks.QueueDraw(q.Context(), 7)
	require.NoError(t, err)
	r := &recorder{TB: t}
	q.Drain(r)
	require.Contains(t, r.log, "cpu task draw runs in the process of the test, where //task:memory is unsupported")
}

func TestALostReplyIsAnErrorAndTheRunIsQueued(t *testing.T) {
	q := taskstest.New(t)
	q.LoseReply(t)
	_, err := tasks.QueueCount(q.Context(), "x")
	require.Error(t, err)
	q.Count.Queued(t, tasks.CountParams{Template: "x"})
}

func TestARunOfAnotherVersionIsASchemaError(t *testing.T) {
	q := taskstest.New(t, tasktest.AllowFailures())
	q.Count.QueueAs(t, map[string]any{"templates": 1})
	q.Drain(t)
	require.Len(t, q.Failures(), 1)
	require.Equal(t, taskrt.Schema, q.Failures()[0].Kind)
}

// recorder is a test whose failure is looked at.
type recorder struct {
	testing.TB
	text, log string
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(format string, args ...any) { r.log += fmt.Sprintf(format, args...) }

func (r *recorder) Fatalf(format string, args ...any) {
	r.text = fmt.Sprintf(format, args...)
	panic(r)
}

func TestAFailureShowsTheNearestRunFirstAndNoSecret(t *testing.T) {
	q := taskstest.New(t)
	_, err := tasks.QueueSendMail(q.Context(), "nobody", "other", "hunter3")
	require.NoError(t, err)
	_, err = tasks.QueueSendMail(q.Context(), "bob", "reminder", "hunter2")
	require.NoError(t, err)
	_, err = tasks.QueueSendMail(q.Context(), "ada", "reminder", "hunter2")
	require.NoError(t, err)
	r := &recorder{TB: t}
	require.Panics(t, func() {
		q.SendMail.Queued(r, tasks.SendMailParams{To: "ada", Template: "welcome", Password: "hunter2"})
	})
	require.NotContains(t, r.text, "hunter")
	require.Contains(t, r.text, `one run was to be queued, but 0 were: signup_mail(to: "ada", template: "welcome", password: ***)`)
	require.Contains(t, r.text, `to: got "bob", want "ada"`)
	require.Equal(t, 3, strings.Count(r.text, "\nrun "))
	nearest, next, last := strings.Index(r.text, `template: got "reminder"`), strings.Index(r.text, `got "bob"`), strings.Index(r.text, `got "nobody"`)
	require.True(t, nearest < next && next < last && nearest > 0, r.text)
}

// TestAThousandTests at one time share nothing.
func TestAThousandTests(t *testing.T) {
	for i := range 1000 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			q := taskstest.New(t)
			name := fmt.Sprint("p", i)
			require.NoError(t, tasks.SignUp(q.Context(), name, ""))
			q.Drain(t)
			q.SendMail.Queued(t, tasks.SendMailParams{To: name, Template: "welcome"})
		})
	}
}

func TestRunsPassThroughPoliciesMiddlewareAndChains(t *testing.T) {
	var seen []string
	q := taskstest.New(t, tasktest.Middleware(func(next taskrt.Handler) taskrt.Handler {
		return func(ctx context.Context, run *taskrt.Run) error {
			seen = append(seen, run.Task)
			return next(ctx, run)
		}
	}))
	_, err := tasks.QueueRemind(q.Context(), "ada", taskrt.Delay(time.Hour))
	require.NoError(t, err)
	_, err = tasks.QueueRemind(q.Context(), "ada", taskrt.Delay(time.Hour))
	require.ErrorIs(t, err, taskrt.ErrDuplicate)
	require.Len(t, q.Remind.Runs(t), 1)

	h, err := taskrt.Then(tasks.CallCount("welcome"), tasks.NextDraw()).Queue(q.Context())
	require.NoError(t, err)
	q.Draw.NotQueued(t)
	q.Drain(t)
	q.Draw.Queued(t, tasks.DrawParams{Points: 7})
	points, err := h.Wait(q.Context())
	require.NoError(t, err)
	require.Equal(t, 49, points)
	require.Equal(t, []string{"signup_count", "draw"}, seen)
}
