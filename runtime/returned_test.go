package runtime_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestATaskReturnsACall waits for the last run of calls of every form, on a goroutine and
// in a child process.
func TestATaskReturnsACall(t *testing.T) {
	for form, want := range map[string]int64{
		"single": 20, "chain": 10, "group": 40, "tree": 70, "after": 40, "elsewhere": 10, "flaky": 20, "named": 20, "same": 20, "same down": 20, "same group": 40,
	} {
		t.Run(form, func(t *testing.T) {
			onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
				give := tasks.CallGive(form, 40)
				for name, call := range map[string]taskrt.Call[int64]{
					"alone":               give,
					"followed":            taskrt.Then(give.With(taskrt.OnQueue("other")), tasks.NextHalf().With(taskrt.ID("followed"))),
					"a member":            group(added(4), give),
					"a followed member":   group(taskrt.Then(give, tasks.NextHalf()), added(4)),
					"a member elsewhere":  group(tasks.CallHalf(4).With(taskrt.OnQueue("third")), give),
					"behind another":      taskrt.Then(added(2), taskrt.After[int64](give)),
					"between two":         taskrt.Then(taskrt.Then(added(2), taskrt.After[int64](give)), tasks.NextHalf()),
					"with an id":          give.With(taskrt.ID("with-an-id-" + strings.ReplaceAll(form, " ", "-"))),
					"a member with an id": group(added(4), give.With(taskrt.ID("member-"+strings.ReplaceAll(form, " ", "-")))),
					"behind, with an id":  taskrt.Then(added(2), taskrt.After[int64](give.With(taskrt.ID("behind-"+strings.ReplaceAll(form, " ", "-"))))),
					"two after the other": taskrt.Then(give, taskrt.After[int64](give)),
				} {
					expected := want
					switch name {
					case "two after the other":
						if form == "named" {
							continue // of two records with one id the first is lost
						}
					case "followed", "between two":
						expected /= 2
					case "a member", "a member elsewhere", "a member with an id":
						expected += 2
					case "a followed member":
						expected = expected/2 + 2
					}
					h, err := call.Queue(ctx)
					require.NoError(t, err, name)
					got, err := h.Wait(ctx)
					require.NoError(t, err, name)
					require.Equal(t, expected, got, name)
					status, err := h.Status(ctx)
					require.NoError(t, err, name)
					require.EqualValues(t, "succeeded", status.State, name)
				}
			})
		})
	}
}

// TestACPUTaskReturnsACall has a child process make the call.
func TestACPUTaskReturnsACall(t *testing.T) {
	b := newMemory(t)
	consume(t, b, taskrt.ConsumerConfig{Processes: 1, Queues: everyQueue}, tasks.Tasks(nil))
	ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
	defer cancel()
	for form, want := range map[string]int64{"single": 20, "group": 40, "tree": 70, "after": 40, "elsewhere": 10, "flaky": 20} {
		h, err := tasks.QueueHand(ctx, form, 40)
		require.NoError(t, err, form)
		got, err := h.Wait(ctx)
		require.NoError(t, err, form)
		require.Equal(t, want, got, form)
	}
	total, err := group(tasks.CallFan([]int64{2, 4}), tasks.CallHalf(2)).Queue(ctx)
	require.NoError(t, err)
	got, err := total.Wait(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 4, got)
	large, err := tasks.QueueFan(ctx, make([]int64, broker.MaxGroup))
	require.NoError(t, err)
	got, err = large.Wait(ctx)
	require.NoError(t, err)
	require.Zero(t, got)
	for form, want := range refusedForms {
		h, err := tasks.QueueHand(ctx, form, 2)
		require.NoError(t, err, form)
		_, err = h.Wait(ctx)
		require.ErrorContains(t, err, want)
	}
}

// refusedForms are calls that cannot be queued.
var refusedForms = map[string]string{
	"zero":        "failed after 1 attempt: queue the call that the task returned: the call is the zero value; make it with a generated Call",
	"wrong":       "failed after 1 attempt: queue the call that the task returned: then: task half: delay -1ns is negative",
	"same first":  "queue the call that the task returned: the id ",
	"same last":   "queue the call that the task returned: the id ",
	"same member": "queue the call that the task returned: the id ",
	"same inner":  "queue the call that the task returned: the id ",

	"skips": "failed after 1 attempt: queue the call that the task returned: the option SkipFailed is for the run that gathers a group",
}

func TestAReturnedCallThatCannotBeQueued(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{Queues: everyQueue}, new(journal), func(t *testing.T, ctx context.Context) {
		for form, want := range refusedForms {
			h, err := tasks.QueueGive(ctx, form, 2)
			require.NoError(t, err, form)
			_, err = h.Wait(ctx)
			require.ErrorContains(t, err, want)
			status, err := h.Status(ctx)
			require.NoError(t, err, form)
			require.Equal(t, 1, status.Attempt, "a retry would not help")
		}
		h, err := tasks.QueueSpread(ctx, make([]int64, broker.MaxGroup+1))
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.ErrorContains(t, err, "queue the call that the task returned: the group has 10001 members, at most 10000 are allowed")
		long, err := tasks.QueueGive(ctx, "long", 0)
		require.NoError(t, err)
		_, err = long.Wait(ctx)
		require.NoError(t, err)
		followed, err := taskrt.Then(tasks.CallGive("long", 0), tasks.NextHalf()).Queue(ctx)
		require.NoError(t, err)
		_, err = followed.Wait(ctx)
		require.ErrorContains(t, err, "queue the call that the task returned: 16 runs follow its first one, and 1 the run that returned it: at most 16 can follow")
	})
}

// TestFailuresOfAReturnedCall has the runs of returned calls fail, or be skipped.
func TestFailuresOfAReturnedCall(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		fails := func(call taskrt.Call[int64], want string) {
			t.Helper()
			h, err := call.Queue(ctx)
			require.NoError(t, err)
			_, err = h.Wait(ctx)
			require.ErrorContains(t, err, want)
			status, err := h.Status(ctx)
			if err == nil {
				require.EqualValues(t, "failed", status.State)
			}
		}
		fails(tasks.CallGive("single", 3), "of task half: failed after 1 attempt: 3 is odd")
		fails(tasks.CallGive("chain", 6), "3 is odd")
		fails(tasks.CallGive("tree", 6), "1 of 3 members of the group failed, the first: run ")
		fails(taskrt.Then(tasks.CallGive("chain", 6), tasks.NextHalf()), "3 is odd")
		fails(group(added(2), tasks.CallGive("chain", 6)), "1 of 2 members of the group failed, the first: run ")
		fails(group(added(2), tasks.CallGive("other", 6)), "no such form of a call: other")

		_, err := tasks.QueueHalf(ctx, 2, taskrt.ID("named-8"), taskrt.Delay(time.Hour))
		require.NoError(t, err)
		h, err := tasks.QueueGive(ctx, "named", 8)
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrDuplicate)
		_, err = h.Status(ctx)
		require.ErrorIs(t, err, taskrt.ErrDuplicate)
		require.ErrorIs(t, h.Cancel(ctx), taskrt.ErrNoRecord, "the other run with the id is not this one")
	})
}

// TestARetryReturnsTheCallOnce has the first attempt fail after it has made the call.
func TestARetryReturnsTheCallOnce(t *testing.T) {
	var j journal
	onBoth(t, func(t *testing.T, b broker.Broker) {
		var middleware []taskrt.Middleware
		var halves []string
		middleware = append(middleware, func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				if run.Task == "half" {
					halves = append(halves, run.Headers["attempt"])
				}
				return next(ctx, run)
			}
		})
		consume(t, b, taskrt.ConsumerConfig{Middleware: middleware, Concurrency: 1}, tasks.Tasks(j.recorder(nil)))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		h, err := tasks.QueueGive(ctx, "flaky", 40)
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.NoError(t, err)
		after, err := tasks.QueueHalf(ctx, 2)
		require.NoError(t, err)
		_, err = after.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"2", ""}, halves)
	})
}

// TestAHandleFollowsFromAnotherProcess has a second client ask by the id alone.
func TestAHandleFollowsFromAnotherProcess(t *testing.T) {
	onBoth(t, func(t *testing.T, b broker.Broker) {
		consume(t, b, taskrt.ConsumerConfig{Queues: everyQueue}, tasks.Tasks(nil))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Minute)
		defer cancel()
		for form, want := range map[string]int64{"tree": 70, "down": 1, "elsewhere": 10} {
			n := int64(40)
			if form == "down" {
				n = 5
			}
			queued, err := tasks.QueueGive(ctx, form, n, taskrt.Delay(100*time.Millisecond))
			require.NoError(t, err)
			other := clientContext(ctx, b)
			h := tasks.HandleGive(other, queued.ID)
			status, err := h.Status(ctx)
			require.NoError(t, err)
			require.False(t, status.State.Ended())
			got, err := h.Wait(ctx)
			require.NoError(t, err)
			require.Equal(t, want, got, form)
			status, err = h.Status(ctx)
			require.NoError(t, err)
			require.EqualValues(t, "succeeded", status.State)
			require.NotEqual(t, queued.ID, status.ID, "the last run has the result")
			require.ErrorIs(t, h.Cancel(ctx), taskrt.ErrNoRecord, "it has ended")
		}
	})
}

// TestAHandleFollowsWhenRecordsHaveExpired has the second of two runs begin long after the
// record of the first has expired.
func TestAHandleFollowsWhenRecordsHaveExpired(t *testing.T) {
	inBubble(t, taskrt.ConsumerConfig{}, new(journal), func(t *testing.T, ctx context.Context) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 24*time.Hour)
		defer cancel()
		h, err := tasks.QueueGive(ctx, "slow", 40)
		require.NoError(t, err)
		time.Sleep(3 * time.Hour) // the bubble's clock
		status, err := h.Status(ctx)
		require.NoError(t, err)
		require.EqualValues(t, "delayed", status.State)
		got, err := h.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 10, got)
		time.Sleep(2 * time.Hour)
		_, err = h.Wait(ctx)
		require.ErrorIs(t, err, taskrt.ErrNoRecord, "the result was kept for an hour")
	})
}

// TestCancelFindsTheRunThatTookThePlace cancels the runs of returned calls, by the handle of
// the run that returned them and of one that follows it.
func TestCancelFindsTheRunThatTookThePlace(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		for name, call := range map[string]taskrt.Call[int64]{
			"alone":    tasks.CallGive("later", 40),
			"followed": taskrt.Then(tasks.CallGive("later", 40).With(taskrt.ID("first")), tasks.NextHalf().With(taskrt.ID("last"))),
			"twice":    tasks.CallGive("twice", 40),
		} {
			h, err := call.Queue(ctx)
			require.NoError(t, err, name)
			require.Eventually(t, func() bool {
				of := h
				if name == "followed" { // itself it waits also before the first has returned its call
					of = tasks.HandleGive(ctx, "first")
				}
				status, err := of.Status(ctx)
				return err == nil && status.State == broker.StateDelayed && status.Task == "half"
			}, 20*time.Second, 10*time.Millisecond, name)
			require.Eventually(t, func() bool { return h.Cancel(ctx) == nil }, 20*time.Second, 10*time.Millisecond, name)
			_, err = h.Wait(ctx)
			require.ErrorIs(t, err, taskrt.ErrCancelled, name)
			status, err := h.Status(ctx)
			require.NoError(t, err, name)
			require.Equal(t, broker.StateCancelled, status.State, name)
			require.ErrorIs(t, h.Cancel(ctx), taskrt.ErrNoRecord, name)
		}
	})
}

// TestReturnedCallsEndOneDay has a task return a call of itself more often than is allowed, by
// itself and within a member of a group.
func TestReturnedCallsEndOneDay(t *testing.T) {
	refused := make(chan error, 10)
	told := func(e taskrt.Event) {
		if e.Kind == taskrt.RunFailed && e.Run.Task == "give" {
			refused <- e.Err
		}
	}
	for _, form := range []string{"down", "within"} {
		inBubble(t, taskrt.ConsumerConfig{OnEvent: told}, new(journal), func(t *testing.T, ctx context.Context) {
			for depth, allowed := range map[int64]bool{998: true, 999: true, 1000: false} {
				h, err := tasks.QueueGive(ctx, form, depth)
				require.NoError(t, err)
				got, err := h.Wait(ctx)
				if allowed {
					require.NoError(t, err, depth)
					require.EqualValues(t, 1, got)
					continue
				}
				require.ErrorContains(t, err, "failed after 1 attempt: ")
				require.ErrorContains(t, <-refused, "queue the call that the task returned: 1001 runs, one after the other, "+
					"have returned a call; have the task queue the next by its Queue function instead")
			}
		})
	}
}

// TestMiddlewareOfTheClientSeesAReturnedCall has the client of a consumer add headers, refuse
// calls and leave runs out.
func TestMiddlewareOfTheClientSeesAReturnedCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		var seen []string
		broken := ""
		client := taskrt.NewClient(b, taskrt.ClientConfig{Middleware: []taskrt.QueueMiddleware{func(next taskrt.QueueHandler) taskrt.QueueHandler {
			return func(ctx context.Context, runs ...*broker.TaskRun) error {
				for _, run := range runs {
					seen = append(seen, run.Task)
					run.Headers = map[string]string{"trace": "abc"}
				}
				_, inTask := taskrt.CurrentRun(ctx)
				switch {
				case inTask && broken == "refuses":
					return fmt.Errorf("not today")
				case inTask && broken == "leaves out":
					return next(ctx, runs[1:]...)
				case inTask && broken == "swallows":
					return nil
				}
				return next(ctx, runs...)
			}
		}}})
		traced := func(next taskrt.Handler) taskrt.Handler {
			return func(ctx context.Context, run *taskrt.Run) error {
				if run.Headers["trace"] != "abc" {
					return taskrt.Permanent(fmt.Errorf("run %s has no header", run.Task))
				}
				return next(ctx, run)
			}
		}
		c, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet, Middleware: []taskrt.Middleware{traced}}, tasks.Tasks(nil))
		require.NoError(t, err)
		start(t, func(ctx context.Context) error { return c.Run(taskrt.WithClient(ctx, client)) })
		ctx, cancel := context.WithTimeout(taskrt.WithClient(context.Background(), client), time.Hour)
		defer cancel()
		h, err := tasks.QueueGive(ctx, "tree", 40)
		require.NoError(t, err)
		got, err := h.Wait(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 70, got)
		require.Equal(t, []string{"give", "half", "total", "give", "total", "half", "half", "half", "half"}, seen, "the call, as Queue would show it, and the one of its member")
		for how, want := range map[string]string{
			"refuses":    "failed after 2 attempts: queue the call that the task returned: not today",
			"leaves out": "queue the call that the task returned: a middleware added",
			"swallows":   "failed after 1 attempt: queue the call that the task returned: a middleware returned nil without passing its runs on",
		} {
			broken = how
			h, err := tasks.QueueGive(ctx, "tree", 40)
			require.NoError(t, err, how)
			_, err = h.Wait(ctx)
			require.ErrorContains(t, err, want)
		}
	})
}

// returning is a task that returns what call makes.
func returning[R any](name string, result *taskrt.Definition[struct{}, R], call func() taskrt.Call[R]) (taskrt.Task, taskrt.Call[R]) {
	d := *result
	d.Spec.Name = name
	d.AppendParams = func(_ *struct{}, b []byte) ([]byte, error) { return codec.AppendMapLen(b, 0), nil }
	d.ReadParams = func(_ *struct{}, r *codec.Reader) { r.Skip() }
	bound := taskrt.BindCall(&d, func(context.Context, *struct{}) (taskrt.Call[R], error) { return call(), nil })
	return bound, taskrt.NewCall(&d, new(struct{}))
}

// TestPoliciesInAReturnedCall has a follow-up whose unique key goes by the result before it.
func TestPoliciesInAReturnedCall(t *testing.T) {
	var j journal
	task, call := returning("once", new(taskrt.Definition[struct{}, taskrt.None]), func() taskrt.Call[taskrt.None] {
		return taskrt.Then(tasks.CallSum(nil, "a").With(taskrt.OnQueue("default")), tasks.NextRecorderOnce(1).With(taskrt.Delay(time.Minute)))
	})
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(j.recorder(nil)), []taskrt.Task{task})
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		h, err := call.Queue(ctx, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		synctest.Wait()
		_, err = tasks.QueueRecorderOnce(ctx, "a: 0 of 0", 2)
		require.ErrorIs(t, err, taskrt.ErrDuplicate, "the follow-up waits with this note")
		_, err = h.Wait(ctx)
		require.NoError(t, err)
		require.Equal(t, []string{"a: 0 of 0"}, j.notes())
	})
}

// TestAReturnedCallThatIsTooLarge has a run that large ones follow return a large call.
func TestAReturnedCallThatIsTooLarge(t *testing.T) {
	large := func(size int) taskrt.Call[string] { return tasks.CallSum(nil, strings.Repeat("x", size)) }
	text := &taskrt.Definition[struct{}, string]{
		AppendResult: func(b []byte, s *string) ([]byte, error) { return codec.AppendString(b, *s), nil },
		ReadResult:   func(r *codec.Reader, s *string) { *s = r.String() },
	}
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		half, call := returning("half_full", text, func() taskrt.Call[string] { return large(700 << 10) })
		full, other := returning("full", text, func() taskrt.Call[string] { return large(1 << 20) })
		consume(t, b, taskrt.ConsumerConfig{}, tasks.Tasks(nil), []taskrt.Task{half, full})
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		h, err := call.Queue(ctx, taskrt.Keep(time.Hour))
		require.NoError(t, err)
		_, err = h.Wait(ctx)
		require.NoError(t, err)
		for want, call := range map[string]taskrt.Call[string]{
			"task sum: payload too large: the parameters take 104":                                other,
			"payload too large: the parameters of its runs and of what follows this run take 143": taskrt.Then(call, taskrt.After[string](large(700<<10))),
		} {
			h, err = call.Queue(ctx, taskrt.Keep(time.Hour))
			require.NoError(t, err)
			_, err = h.Wait(ctx)
			require.ErrorContains(t, err, "failed after 1 attempt: queue the call that the task returned: "+want)
		}
	})
}

// TestAReturnedCallWhereItIsNotKept has brokers without parts that the call needs.
func TestAReturnedCallWhereItIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		leased := struct {
			broker.Broker
			broker.Leaser
			broker.Records
		}{b, b, b}
		consume(t, leased, taskrt.ConsumerConfig{Queues: everyQueue}, tasks.Tasks(nil))
		ctx, cancel := context.WithTimeout(clientContext(context.Background(), b), time.Hour)
		defer cancel()
		for form, want := range map[string]string{
			"single": "this broker does not keep what a run returns to be queued; use one that has broker.Policies",
			"group":  "this broker has no broker.Groups",
		} {
			h, err := tasks.QueueGive(ctx, form, 4)
			require.NoError(t, err, form)
			_, err = h.Wait(ctx)
			require.ErrorContains(t, err, "failed after 1 attempt: queue the call that the task returned: "+want)
		}
	})
	t.Run("three methods", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := core{newMemory(t)}
			ended := make(chan string, 10)
			consume(t, b, taskrt.ConsumerConfig{OnEvent: func(e taskrt.Event) {
				if e.Kind == taskrt.RunSucceeded {
					ended <- e.Run.Task
				}
			}}, tasks.Tasks(nil))
			_, err := tasks.QueueGive(clientContext(context.Background(), b), "chain", 8)
			require.NoError(t, err)
			for _, want := range []string{"give", "half", "half"} {
				require.Equal(t, want, <-ended, "the consumer queues them itself")
			}
		})
	})
}

// TestATaskThatContinuesItselfUnderItsID can be asked for and cancelled by the handle of its first
// run, and by its id.
func TestATaskThatContinuesItselfUnderItsID(t *testing.T) {
	onBothConsumed(t, taskrt.ConsumerConfig{}, func(t *testing.T, ctx context.Context, _ broker.Broker) {
		for name, call := range map[string]taskrt.Call[int64]{
			"alone":  tasks.CallGive("same later", 40).With(taskrt.ID("alone")),
			"behind": taskrt.Then(added(2), taskrt.After[int64](tasks.CallGive("same later", 40).With(taskrt.ID("behind")))),
		} {
			first, err := call.Queue(ctx)
			require.NoError(t, err, name)
			byID := tasks.HandleGive(ctx, name)
			for _, h := range []*taskrt.Handle[int64]{first, byID} {
				require.Eventually(t, func() bool {
					s, err := h.Status(ctx)
					return err == nil && s.Task == "half" && s.State == broker.StateDelayed
				}, 10*time.Second, time.Millisecond, name)
			}
			require.NoError(t, first.Cancel(ctx), name)
			for _, h := range []*taskrt.Handle[int64]{first, byID} {
				_, err = h.Wait(ctx)
				require.ErrorIs(t, err, taskrt.ErrCancelled, name)
				s, err := h.Status(ctx)
				require.NoError(t, err, name)
				require.Equal(t, taskrt.Cancelled, s.Err.Kind, name)
				require.ErrorIs(t, h.Cancel(ctx), taskrt.ErrNoRecord, name)
			}
		}
	})
}
