package tasktest

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Task is one task of a kit, with parameters P and result R. taskgen -test writes one for each
// exported task.
type Task[P, R any] struct {
	kit  *Kit
	task taskrt.Task
	err  error
}

// Run is a run that was queued.
type Run[P any] struct {
	ID     string
	Params P
	In     time.Duration // how long after its queueing it is due
	Queue  string
}

// Of returns the task of that name. Generated code calls it.
func Of[P, R any](k *Kit, name string) *Task[P, R] {
	for _, task := range k.tasks {
		if task.Name() == name {
			return &Task[P, R]{kit: k, task: task}
		}
	}
	return &Task[P, R]{kit: k, err: fmt.Errorf("tasktest: no task is named %q; run go generate", name)}
}

// Runs returns the runs that were queued since New, in order, those that have ended included.
// Those that gather a group's results are not among them.
func (x *Task[P, R]) Runs(t testing.TB) []*Run[P] {
	t.Helper()
	if x.err != nil {
		t.Fatal(x.err)
	}
	var runs []*Run[P]
	for _, run := range x.kit.broker.of(x.task.Name()) {
		params, err := x.task.DecodeParams(run.Payload)
		if err != nil {
			t.Errorf("tasktest: run %s: %v", run.ID, err)
			continue
		}
		runs = append(runs, &Run[P]{ID: run.ID, Params: *params.(*P), In: dueIn(run), Queue: run.Queue})
	}
	return runs
}

func dueIn(run *broker.TaskRun) time.Duration {
	if !run.Due.IsZero() {
		return run.Due.Sub(run.QueuedAt)
	}
	return run.Delay
}

// Queued fails the test unless exactly one run with these parameters was queued since New, and
// returns it. The message has what was queued, the nearest first, with *** for secrets.
func (x *Task[P, R]) Queued(t testing.TB, want P) *Run[P] {
	t.Helper()
	runs := x.Runs(t)
	want = x.travelled(t, want)
	var found []*Run[P]
	for _, run := range runs {
		if len(x.differences(run.Params, want)) == 0 {
			found = append(found, run)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s", x.describe(runs, want, len(found)))
	}
	return found[0]
}

// NotQueued fails the test if a run was queued since New.
func (x *Task[P, R]) NotQueued(t testing.TB) {
	t.Helper()
	runs := x.Runs(t)
	if len(runs) == 0 {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "tasktest: no run of %s was to be queued, but %d were:", x.task.Name(), len(runs))
	for _, run := range runs {
		fmt.Fprintf(&text, "\n  %s", x.show(run.Params))
	}
	t.Fatal(text.String())
}

// QueuedWhere fails the test unless exactly one run was queued since New whose parameters
// satisfy where and that meets the conditions, and returns it.
func (x *Task[P, R]) QueuedWhere(t testing.TB, where func(*P) bool, conditions ...Condition) *Run[P] {
	t.Helper()
	runs := x.Runs(t)
	var found []*Run[P]
	for _, run := range runs {
		meets := func(c Condition) bool { return c(run.In, run.Queue) }
		if where(&run.Params) && !slices.ContainsFunc(conditions, func(c Condition) bool { return !meets(c) }) {
			found = append(found, run)
		}
	}
	if len(found) != 1 {
		var text strings.Builder
		fmt.Fprintf(&text, "tasktest: one run of %s was to satisfy the condition, but %d of %d do:", x.task.Name(), len(found), len(runs))
		for _, run := range runs {
			fmt.Fprintf(&text, "\n  %s, due in %v", x.show(run.Params), run.In)
		}
		t.Fatal(text.String())
	}
	return found[0]
}

// Condition is what a run has to meet beside its parameters.
type Condition func(in time.Duration, queue string) bool

// In is met by a run that is due this long after its queueing.
func In(d time.Duration) Condition { return func(in time.Duration, _ string) bool { return in == d } }

// OnQueue is met by a run in that queue.
func OnQueue(name string) Condition {
	return func(_ time.Duration, queue string) bool { return queue == name }
}

// Returns has runs return this in place of the task's function.
func (x *Task[P, R]) Returns(result R, err error) {
	x.Does(func(context.Context, *P) (R, error) { return result, err })
}

// Does has runs call fn in place of the task's function.
func (x *Task[P, R]) Does(fn func(ctx context.Context, p *P) (R, error)) {
	x.kit.mu.Lock()
	defer x.kit.mu.Unlock()
	x.kit.replaced[x.task.Name()] = func(ctx context.Context, params any) (any, error) { return fn(ctx, params.(*P)) }
}

// QueueAs queues a run with these parameters by their names on the wire, as another version of
// the task may have: some can lack, or have other types. It returns the run's id.
func (x *Task[P, R]) QueueAs(t testing.TB, params map[string]any) string {
	t.Helper()
	if x.err != nil {
		t.Fatal(x.err)
	}
	payload, err := msgpack.Marshal(params)
	if err != nil {
		t.Fatalf("tasktest: encode parameters of task %s: %v", x.task.Name(), err)
	}
	spec := x.task.Spec()
	run := &broker.TaskRun{
		ID: fmt.Sprintf("as-%s-%d", spec.Name, len(x.kit.broker.of(spec.Name))), Task: spec.Name, Queue: spec.Queue,
		Kind: spec.Kind, Priority: spec.Priority, Payload: payload, QueuedAt: time.Now(), Keep: time.Hour,
	}
	if err := x.kit.broker.QueueTasks(x.kit.ctx, run); err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	return run.ID
}

// travelled returns parameters as they come out of the codec.
func (x *Task[P, R]) travelled(t testing.TB, params P) P {
	t.Helper()
	payload, err := x.task.EncodeParams(&params)
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	decoded, err := x.task.DecodeParams(payload)
	if err != nil {
		t.Fatalf("tasktest: %v", err)
	}
	return *decoded.(*P)
}

// differences returns a line for each parameter that differs.
func (x *Task[P, R]) differences(got, want P) (lines []string) {
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for _, param := range x.task.Params() {
		a, b := g.Field(param.Field).Interface(), w.Field(param.Field).Interface()
		if reflect.DeepEqual(a, b) {
			continue
		}
		if param.Secret {
			lines = append(lines, fmt.Sprintf("%s: *** differs", param.Name))
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: got %#v, want %#v", param.Name, a, b))
	}
	return lines
}

// show returns parameters for messages.
func (x *Task[P, R]) show(params P) string {
	v := reflect.ValueOf(params)
	var parts []string
	for _, param := range x.task.Params() {
		value := "***"
		if !param.Secret {
			value = fmt.Sprintf("%#v", v.Field(param.Field).Interface())
		}
		parts = append(parts, param.Name+": "+value)
	}
	return x.task.Name() + "(" + strings.Join(parts, ", ") + ")"
}

// mostShown is how many runs a message has.
const mostShown = 5

func (x *Task[P, R]) describe(runs []*Run[P], want P, found int) string {
	var text strings.Builder
	fmt.Fprintf(&text, "tasktest: one run was to be queued, but %d were: %s", found, x.show(want))
	if len(runs) == 0 {
		fmt.Fprintf(&text, "\nNo run of %s was queued.", x.task.Name())
	}
	nearest := slices.Clone(runs)
	slices.SortStableFunc(nearest, func(a, b *Run[P]) int {
		return len(x.differences(a.Params, want)) - len(x.differences(b.Params, want))
	})
	for i, run := range nearest {
		if i == mostShown {
			fmt.Fprintf(&text, "\nand %d more", len(nearest)-i)
			break
		}
		fmt.Fprintf(&text, "\nrun %s", run.ID)
		for _, line := range x.differences(run.Params, want) {
			fmt.Fprintf(&text, "\n  %s", line)
		}
	}
	return text.String()
}
