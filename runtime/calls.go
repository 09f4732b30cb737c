package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// Calls that a run in a child process makes through its parent.
const (
	callQueue  = "queue"
	callRecord = "record"
	callWait   = "wait"
	callCancel = "cancel"
	callTell   = "tell" // of progress
	callGroup  = "group"

	callPutEntry    = "put schedule"
	callDeleteEntry = "delete schedule"
	callEntries     = "schedules"
)

// wireErrors are the sentinels that keep their identity between child and
// parent, by their place in this list from 1, so new ones come last.
var wireErrors = []error{
	broker.ErrDuplicate, broker.ErrQueueFull, broker.ErrNoRecord, broker.ErrClosed, broker.ErrOutcomeUnknown,
	ErrPayloadTooLarge, context.Canceled, context.DeadlineExceeded, broker.ErrNotReplicated,
	broker.ErrNoSchedule,
}

// parentBroker is the broker of a child process: a client's requests go to the
// parent, which has them done by its own broker.
type parentBroker struct{ parent *subprocess.Parent }

func (b parentBroker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	return b.queue(ctx, callQueue, runs)
}

// QueueGroup sends the gathering run before the members.
func (b parentBroker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	return b.queue(ctx, callGroup, append([]*broker.TaskRun{then}, members...))
}

func (b parentBroker) queue(ctx context.Context, method string, runs []*broker.TaskRun) error {
	body := codec.AppendArrayLen(nil, len(runs))
	for _, run := range runs {
		env, err := run.MarshalBinary()
		if err != nil {
			return err
		}
		body = codec.AppendBytes(body, env)
	}
	_, err := b.call(ctx, method, body)
	return err
}

func (b parentBroker) Cancel(ctx context.Context, queue, id string, _ broker.Failure) error {
	_, err := b.call(ctx, callCancel, codec.AppendString(codec.AppendString(nil, queue), id))
	return err
}

func (b parentBroker) Record(ctx context.Context, queue, id string) (*broker.Record, error) {
	return b.record(ctx, callRecord, queue, id)
}

func (b parentBroker) WaitRecord(ctx context.Context, queue, id string) (*broker.Record, error) {
	return b.record(ctx, callWait, queue, id)
}

func (b parentBroker) record(ctx context.Context, method, queue, id string) (*broker.Record, error) {
	r, err := b.call(ctx, method, codec.AppendString(codec.AppendString(nil, queue), id))
	if err != nil {
		return nil, err
	}
	return readRecord(r)
}

// call asks the parent and returns a reader of its answer, which opens with
// whether that is an error, and then its number in wireErrors, or 0, its text,
// and the index and id of each run that a [DuplicateError] names.
func (b parentBroker) call(ctx context.Context, method string, body []byte) (*codec.Reader, error) {
	answer, err := b.parent.Call(ctx, method, body)
	if err != nil {
		return nil, err
	}
	r := codec.NewReader(answer)
	failed := r.Bool()
	if !failed && r.Err() == nil {
		return r, nil
	}
	n, message := r.Int(), r.String()
	var duplicates DuplicateError
	for left := r.ArrayLen(); left > 0 && r.More(); left -= 2 {
		duplicates.Runs = append(duplicates.Runs, broker.Duplicate{Index: r.Int(), ID: r.String()})
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read the parent's answer: %w", err)
	}
	if len(duplicates.Runs) > 0 {
		return nil, &duplicates
	}
	if n > 0 && n <= len(wireErrors) {
		return nil, &wireError{message, wireErrors[n-1]}
	}
	return nil, errors.New(message)
}

// wireError is a sentinel that crossed from the parent, with its whole text.
type wireError struct {
	message string
	is      error
}

func (e *wireError) Error() string { return e.message }
func (e *wireError) Unwrap() error { return e.is }

// callServer is the parent's end of parentBroker: it does what a run in a child
// process asks for.
type callServer struct{ client *Client }

func (s callServer) serve(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
	answer, err := s.answer(ctx, run, method, codec.NewReader(body))
	if err == nil {
		return append(codec.AppendBool(nil, false), answer...), nil
	}
	n := 1 + slices.IndexFunc(wireErrors, func(sentinel error) bool { return errors.Is(err, sentinel) })
	b := codec.AppendInt(codec.AppendBool(nil, true), int64(n))
	b = codec.AppendString(b, truncate(err.Error(), maxMessage))
	var duplicates *DuplicateError
	if !errors.As(err, &duplicates) {
		return codec.AppendArrayLen(b, 0), nil
	}
	b = codec.AppendArrayLen(b, 2*len(duplicates.Runs))
	for _, d := range duplicates.Runs {
		b = codec.AppendString(codec.AppendInt(b, int64(d.Index)), d.ID)
	}
	return b, nil
}

func (s callServer) answer(ctx context.Context, run *broker.TaskRun, method string, r *codec.Reader) ([]byte, error) {
	if method == callQueue || method == callGroup {
		runs, err := readRuns(r)
		if err != nil {
			return nil, err
		}
		for _, queued := range runs { // the lineage is the parent's word, not the child's
			queued.ParentID, queued.RootID = run.ID, rootID(run)
			if err := s.client.checkSize(queued); err != nil { // the child did not
				return nil, err
			}
		}
		if method == callQueue || len(runs) == 0 {
			return nil, s.client.queue(ctx, runs...)
		}
		return nil, s.client.queueStep(ctx, step{then: runs[0], runs: runs[1:]})
	}
	switch method {
	case callPutEntry, callDeleteEntry, callEntries:
		return s.answerSchedules(ctx, run, method, r)
	}
	if method == callTell {
		done, total, note := r.Int64(), r.Int64(), r.String()
		if err := r.Done(); err != nil {
			return nil, fmt.Errorf("read progress: %w", err)
		}
		Progress(ctx, done, total, note) // ctx is the run's, made by the consumer
		return nil, nil
	}
	queue, id := r.String(), r.String()
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read a request about a run: %w", err)
	}
	if method == callCancel {
		return nil, s.client.cancel(ctx, queue, id)
	}
	records, ok := s.client.broker.(recorder)
	if !ok {
		return nil, ErrNoRecord
	}
	get := records.Record
	switch method {
	case callRecord:
	case callWait:
		get = records.WaitRecord
	default:
		return nil, fmt.Errorf("a child process asked for %.32q, which this process does not know", method)
	}
	record, err := get(ctx, queue, id)
	if err != nil {
		return nil, err
	}
	return appendRecord(nil, record), nil
}

func readRuns(r *codec.Reader) ([]*broker.TaskRun, error) {
	n := r.ArrayLen()
	runs := make([]*broker.TaskRun, 0, codec.Prealloc(n))
	for ; n > 0 && r.More(); n-- {
		run := new(broker.TaskRun)
		if err := run.UnmarshalBinary(r.Bytes()); err != nil {
			return nil, err
		}
		runs = append(runs, run)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read runs to queue: %w", err)
	}
	return runs, nil
}

func appendRecord(b []byte, record *broker.Record) []byte {
	for _, s := range []string{record.ID, record.Task, record.Queue, record.ParentID, string(record.State)} {
		b = codec.AppendString(b, s)
	}
	b = codec.AppendInt(b, int64(record.Attempt))
	b = codec.AppendBytes(b, record.Result)
	b = codec.AppendBool(b, record.Failure != nil)
	if f := record.Failure; f != nil {
		b = codec.AppendString(codec.AppendString(codec.AppendString(b, string(f.Kind)), f.Message), f.Stack)
	}
	b = codec.AppendBool(b, record.Progress != nil)
	if p := record.Progress; p != nil {
		b = codec.AppendString(codec.AppendInt(codec.AppendInt(b, p.Done), p.Total), p.Note)
	}
	return b
}

func readRecord(r *codec.Reader) (*broker.Record, error) {
	record := &broker.Record{ID: r.String(), Task: r.String(), Queue: r.String(), ParentID: r.String(), State: broker.State(r.String())}
	record.Attempt, record.Result = r.Int(), r.Bytes()
	if r.Bool() {
		record.Failure = &broker.Failure{Kind: FailureKind(r.String()), Message: r.String(), Stack: r.String()}
	}
	if r.Bool() {
		record.Progress = &broker.Progress{Done: r.Int64(), Total: r.Int64(), Note: r.String()}
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read a record: %w", err)
	}
	return record, nil
}
