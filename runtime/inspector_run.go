package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/inspect"
	"github.com/taskgen/taskgen/internal/text"
)

// RunDetail is all that is known of one run. A time that is zero is unknown.
type RunDetail struct {
	ID      string
	Task    string // empty: its bytes cannot be read
	Queue   string
	State   State
	Attempt int // attempts that have ended

	QueuedAt time.Time // by the producer's clock
	Due      time.Time // of a delayed run
	Started  time.Time // of the attempt that goes on, or was the last
	Ended    time.Time // of a run that has ended
	Host     string    // that executes it, or executed the last attempt: host name, colon, process id
	Session  string    // of a running one: that holds it
	Failure  *broker.Failure
	Attempts []broker.Attempt // the latest that have ended, the oldest first
	Progress *RunProgress

	Run    *broker.TaskRun    // as it is stored; nil: there is only a record of it
	Record *broker.Record     // nil: none is kept
	Dead   *broker.DeadLetter // nil: it is none

	Params    ShownParams // nil: they are not known any more, or ParamsErr
	ParamsErr error       // why they cannot be shown
	Result    json.RawMessage
	ResultErr error

	Skipped []Skipped // queues that could not be looked into before it was found
}

// AmbiguousError is the error if several queues have a live run with one id.
type AmbiguousError struct {
	ID     string
	Queues []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("the queues %s have a run of this id each; name one", strings.Join(e.Queues, " and "))
}

// Run returns all that is known of a run in some queues, or in all if none is named. It finds
// each that has a record. Others it looks for among the runs that are delayed, queued and
// running, and the dead letters, up to some 100,000 in all and for some five seconds: name the queue
// to have all of it go there. A pending run, one that waits for a group or is to follow another,
// is found by its record alone. Run returns an error that wraps [ErrNoRecord] and names the
// queues that it has not searched to their ends if it does not find the run, and an
// [*AmbiguousError].
func (i *Inspector) Run(ctx context.Context, id string, queues ...string) (*RunDetail, error) {
	d, err := i.run(ctx, id, queues)
	if err != nil && !errors.Is(err, ErrNoRecord) {
		return nil, fmt.Errorf("show run %s: %w", id, err)
	}
	return d, err
}

func (i *Inspector) run(ctx context.Context, id string, queues []string) (*RunDetail, error) {
	l, records, err := i.recordsOf(ctx, id, queues)
	if err != nil {
		return nil, err
	}
	d := &RunDetail{ID: id}
	queues = l.Queues
	if len(records) > 0 {
		d.addRecord(records[0])
		queues = []string{d.Queue}
	}
	search := l.Search(queues, id)
	found, err := addStored(ctx, search, d)
	if err != nil {
		return nil, err
	}
	d.Skipped = skippedOf(l)
	if !found && d.Record == nil {
		return nil, notFound(l, id, search.Cut(), d.Skipped)
	}
	if d.Session != "" && d.Host == "" {
		if hosts, err := i.Hosts(ctx); err == nil { // else it stays unknown
			d.Host = hosts[d.Session]
		}
	}
	i.decode(d)
	return d, nil
}

// addStored adds the run as it is stored, live or dead, if it is.
func addStored(ctx context.Context, search *inspect.Search, d *RunDetail) (found bool, err error) {
	if !d.State.Ended() {
		info, err := search.Live(ctx, d.State)
		if err != nil || info != nil {
			return info != nil, d.addInfo(info, err)
		}
	}
	if d.State != "" && d.State != broker.StateFailed {
		return false, nil
	}
	letter, err := search.Letter(ctx)
	if err != nil || letter == nil {
		return false, err
	}
	d.addLetter(letter)
	return true, nil
}

// recordsOf begins a look for an id, and returns its records. Two live runs are an error.
func (i *Inspector) recordsOf(ctx context.Context, id string, queues []string) (*inspect.Look, []*broker.Record, error) {
	if err := (&broker.TaskRun{ID: id, Task: "-", Queue: "-"}).Validate(); err != nil {
		return nil, nil, err
	}
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, nil, err
	}
	records, err := l.RecordsOf(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	ambiguous := &AmbiguousError{ID: id}
	for _, r := range records {
		if !r.State.Ended() {
			ambiguous.Queues = append(ambiguous.Queues, r.Queue)
		}
	}
	if len(ambiguous.Queues) > 1 {
		slices.Sort(ambiguous.Queues)
		return nil, nil, ambiguous
	}
	return l, records, nil
}

// notFoundError is that a run was not found.
type notFoundError struct{ what string }

func (e *notFoundError) Error() string { return e.what }

// Is makes errors.Is(err, ErrNoRecord) true.
func (e *notFoundError) Is(target error) bool { return target == ErrNoRecord }

// notYet is a reason why a run is not found: until a run has succeeded, brokers know its
// follow-ups (Then) only as a part of it.
const notYet = "one that is to follow another is not known before that has succeeded"

// noRecord is a reason why a run is not shown: brokers do not list pending runs.
const noRecord = "one that waits for a group is shown only if it has a record"

// notFound returns the error of a run that is nowhere among the records, and the dead letters
// and live runs that were looked at: of some queues not all.
func notFound(l *inspect.Look, id string, cut []string, skipped []Skipped) error {
	if len(l.Queues) == 1 && len(skipped) > 0 {
		return skipped[0].Err
	}
	what := fmt.Sprintf("no run %s in %s: not among the records, the dead letters and the runs that are running, queued and delayed", id, places(l))
	if len(cut) > 0 {
		what += fmt.Sprintf(", as far as these were searched: %s not to the end", queuesText(cut))
	}
	what += "; " + noRecord + ", and " + notYet
	return unlessSkipped(&notFoundError{what}, skipped)
}

// unlessSkipped adds to an error that something was not found that queues were skipped.
func unlessSkipped(err error, skipped []Skipped) error {
	if len(skipped) == 0 {
		return err
	}
	where := "names of queues"
	if skipped[0].Queue != "" {
		where = "queue " + skipped[0].Queue
	}
	return fmt.Errorf("%w; it may be in what could not be read: %s: skipped: %w", err, where, skipped[0].Err)
}

// places names the queues of a look.
func places(l *inspect.Look) string { return queuesText(l.Queues) }

func queuesText(names []string) string {
	if len(names) == 1 {
		return "queue " + names[0]
	}
	return "the queues " + text.List(names, 20)
}

func (d *RunDetail) addRecord(r *broker.Record) {
	d.Record, d.Task, d.Queue, d.State, d.Attempt = r, r.Task, r.Queue, r.State, r.Attempt
	d.QueuedAt, d.Due, d.Started, d.Ended, d.Host = r.QueuedAt, r.Due, r.StartedAt, r.EndedAt, r.Host
	d.Attempts, d.Progress = r.Attempts, r.Progress
	if r.State != broker.StateSucceeded { // else it is of an attempt before
		d.Failure = r.Failure
	}
	d.addLastAttempt()
}

// addLastAttempt sets what is known by the last attempt alone.
func (d *RunDetail) addLastAttempt() {
	if len(d.Attempts) == 0 || d.State == broker.StateRunning {
		return
	}
	last := d.Attempts[len(d.Attempts)-1]
	if d.Started.IsZero() {
		d.Started = last.Started
	}
	if d.Host == "" {
		d.Host = last.Host
	}
}

// addInfo adds what is known of a run that waits or runs. It returns err.
func (d *RunDetail) addInfo(i *broker.RunInfo, err error) error {
	if i == nil {
		return err
	}
	d.addRun(i.Run)
	d.Queue, d.State, d.Session, d.Due = i.Run.Queue, i.State, i.Session, time.Time{}
	if i.State == broker.StateDelayed {
		d.Due = i.Due
	}
	if !i.Started.IsZero() {
		d.Started = i.Started
	}
	if i.Failure != nil {
		d.Failure = i.Failure
	}
	d.addLastAttempt()
	return nil
}

func (d *RunDetail) addLetter(l *inspect.Letter) {
	d.Dead, d.Queue, d.State, d.Failure, d.Ended = l.DeadLetter, l.Queue, broker.StateFailed, &l.Failure, l.At
	if l.Run != nil {
		d.addRun(l.Run)
	}
	d.addLastAttempt()
}

func (d *RunDetail) addRun(run *broker.TaskRun) {
	d.Run, d.Task, d.Attempt, d.QueuedAt = run, run.Task, run.Attempt, run.QueuedAt
	if attempts := run.History.OrZero().Attempts; len(attempts) > 0 {
		d.Attempts = attempts
	}
}

// Payload returns the parameters as they travel, with the secret ones, nil if they are not
// known any more. It is shared: do not change it.
func (d *RunDetail) Payload() []byte {
	switch {
	case d.Run != nil:
		return d.Run.Payload
	case d.Record != nil:
		return d.Record.Payload
	}
	return nil
}

// decode adds the parameters and the result as people may see them.
func (i *Inspector) decode(d *RunDetail) {
	t := i.tasks.byName[d.Task]
	payload, known := []byte(nil), false
	switch {
	case d.Run != nil:
		payload, known = d.Run.Payload, true
	case d.Dead != nil:
		d.ParamsErr = fmt.Errorf("the run is %d bytes that cannot be read", len(d.Dead.Raw))
	case d.Record != nil && d.Record.Payload != nil:
		payload, known = d.Record.Payload, true
	}
	if known && t == nil {
		d.ParamsErr = fmt.Errorf("%d bytes of a task that this program does not have", len(payload))
	} else if known {
		d.Params, d.ParamsErr = t.ShowParams(payload)
	}
	if d.State != broker.StateSucceeded || d.Record == nil || len(d.Record.Successors) > 0 {
		return // the last of the successors has the result
	}
	if t == nil {
		d.ResultErr = fmt.Errorf("%d bytes of a task that this program does not have", len(d.Record.Result))
		return
	}
	d.Result, d.ResultErr = t.ShowResult(d.Record.Result)
}

// CancelledRun is a run that [Inspector.Cancel] has cancelled.
type CancelledRun struct {
	Queue   string
	Running bool // its consumer learns of it within a second; else it waited, and has ended
	Skipped []Skipped
}

// Cancel cancels a run in the first of some queues that has it, or of all if none is named,
// as [Handle.Cancel] does. It returns an error that wraps [ErrNoRecord] if no live run has
// the id, and an [*AmbiguousError] if the records of several queues have one.
func (i *Inspector) Cancel(ctx context.Context, id string, queues ...string) (*CancelledRun, error) {
	cancelled, err := i.cancel(ctx, id, queues)
	if err != nil {
		return nil, fmt.Errorf("cancel run %s: %w", id, err)
	}
	return cancelled, nil
}

func (i *Inspector) cancel(ctx context.Context, id string, queues []string) (*CancelledRun, error) {
	l, records, err := i.recordsOf(ctx, id, queues)
	if err != nil {
		return nil, err
	}
	queues = l.Queues
	ended := ""
	for _, r := range records {
		queues = append([]string{r.Queue}, queues...) // there first
		if r.State.Ended() {
			ended = fmt.Sprintf("it has ended in queue %s: %s", r.Queue, endOf(r))
		}
	}
	done, err := l.Cancel(ctx, queues, id, broker.Failure{Kind: Cancelled, Message: onRequest})
	skipped := skippedOf(l)
	switch {
	case err != nil:
		return nil, err
	case done != nil:
		return &CancelledRun{done.Queue, done.Running, skipped}, nil
	}
	if len(l.Queues) == 1 && len(skipped) > 0 {
		return nil, skipped[0].Err
	}
	if ended == "" {
		ended = fmt.Sprintf("no run of this id waits or runs in %s; %s, so cancel that", places(l), notYet)
	}
	return nil, unlessSkipped(&notFoundError{ended}, skipped)
}

// endOf describes the end of a run.
func endOf(r *broker.Record) string {
	if r.Failure == nil || r.State != broker.StateFailed {
		return string(r.State)
	}
	return fmt.Sprintf("%s (%s)", r.State, r.Failure.Kind)
}

// ShownParams are the parameters of a run as people may see them, in the order of the
// function's. As JSON they are an object.
type ShownParams []ShownParam

// ShownParam is a parameter of a run: its value as JSON, or as a JSON string where JSON has
// no form for it. A secret one is "***".
type ShownParam struct {
	Name  string
	Value json.RawMessage
}

// MarshalJSON returns an object with the parameters in their order.
func (p ShownParams) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, param := range p {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := text.JSON(param.Name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), param.Value...)
	}
	return append(b, '}'), nil
}

// hidden stands for a secret.
const hidden = "***"

// ShowParams returns the parameters of a payload as people may see them, with secret ones
// hidden. It returns an error if the payload does not fit the task; that of a task with
// secret parameters quotes no value.
func (t Task) ShowParams(payload []byte) (shown ShownParams, err error) {
	defer recovered(&err)
	params, err := t.DecodeParams(payload)
	switch {
	case err != nil && len(t.spec.Secrets) > 0:
		return nil, errors.New("they do not fit the task") // the error may quote them
	case err != nil:
		return nil, err
	}
	v := reflect.ValueOf(params).Elem()
	if v.Kind() != reflect.Struct {
		return nil, errors.New("they are no struct")
	}
	shown = ShownParams{}
	for _, p := range t.Params() {
		shown = append(shown, ShownParam{p.Name, p.Show(v.Field(p.Field))})
	}
	return shown, nil
}

// Show returns a value of the parameter as people may see it.
func (p Param) Show(v reflect.Value) json.RawMessage {
	if p.Secret {
		return json.RawMessage(`"` + hidden + `"`)
	}
	return showValue(v.Interface())
}

// ShowResult returns a result as people may see it: as JSON, or as a JSON string where JSON
// has no form for it. That of a task without a result is nil.
func (t Task) ShowResult(b []byte) (shown json.RawMessage, err error) {
	defer recovered(&err)
	result, err := t.DecodeResult(b)
	if err != nil || !t.HasResult() {
		return nil, err
	}
	return showValue(result), nil
}

// showValue returns v as JSON, or as text where JSON has no form for it.
func showValue(v any) json.RawMessage {
	b, err := text.JSON(v)
	if err != nil {
		b, _ = text.JSON(fmt.Sprintf("%+v", v)) // a string always has one
	}
	return bytes.TrimSpace(b)
}
