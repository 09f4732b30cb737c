package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/text"
)

// The calls that a run in a child process makes through its parent.
const (
	callQueue    = "queue"
	callRecord   = "record"
	callWait     = "wait"
	callCancel   = "cancel"
	callProgress = "progress"
	callGroup    = "group"

	callPutSchedule    = "put schedule"
	callDeleteSchedule = "delete schedule"
	callSchedules      = "schedules"
)

// ErrPayloadTooLarge is exported by package runtime. It stands here to keep its
// identity between child and parent.
var ErrPayloadTooLarge = errors.New("payload too large")

// sentinels keep their identity between child and parent. They travel as their place
// in this list, from 1.
var sentinels = []error{
	broker.ErrDuplicate, broker.ErrQueueFull, broker.ErrNoRecord, broker.ErrClosed, broker.ErrOutcomeUnknown,
	ErrPayloadTooLarge, context.Canceled, context.DeadlineExceeded, broker.ErrNotReplicated,
	broker.ErrNoSchedule,
}

// Backend does in the parent what a run in a child process asks for. Its methods may
// be called concurrently.
type Backend interface {
	// Queue queues runs, all or none. It refuses runs that are too large with
	// ErrPayloadTooLarge.
	Queue(ctx context.Context, runs ...*broker.TaskRun) error
	// QueueGroup queues a group as Queue does.
	QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error
	// Cancel cancels a run.
	Cancel(ctx context.Context, queue, id string) error
	// Progress notes how far the run is that ctx belongs to.
	Progress(ctx context.Context, p broker.Progress)
	// Records returns the broker's records, nil if it keeps none.
	Records() Records
	// Schedules returns the broker's dynamic schedules, or why there are none. It
	// refuses runs that are too large as Queue does.
	Schedules() (Schedules, error)
}

// Records are the records of runs.
type Records interface {
	Record(ctx context.Context, queue, id string) (*broker.Record, error)
	WaitRecord(ctx context.Context, queue, id string) (*broker.Record, error)
}

// Schedules are dynamic schedules.
type Schedules interface {
	PutSchedule(ctx context.Context, s *broker.Schedule) error
	DeleteSchedule(ctx context.Context, queue, id string) error
	Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error)
}

// Serve does what a run in a child process asks for, and returns the answer for the
// child.
func Serve(ctx context.Context, b Backend, run *broker.TaskRun, method string, body []byte) []byte {
	answer, err := server{b, run}.answer(ctx, method, codec.NewReader(body))
	if err != nil {
		return appendError(codec.AppendBool(nil, true), err)
	}
	return append(codec.AppendBool(nil, false), answer...)
}

// server answers the calls of one run.
type server struct {
	backend Backend
	run     *broker.TaskRun
}

func (s server) answer(ctx context.Context, method string, r *codec.Reader) ([]byte, error) {
	switch method {
	case callQueue, callGroup:
		return nil, s.queue(ctx, method, r)
	case callPutSchedule, callDeleteSchedule, callSchedules:
		return s.schedules(ctx, method, r)
	case callProgress:
		return nil, s.progress(ctx, r)
	}
	queue, id, err := readID(r)
	if err != nil {
		return nil, fmt.Errorf("read a request about a run: %w", err)
	}
	switch method {
	case callCancel:
		return nil, s.backend.Cancel(ctx, queue, id)
	case callRecord, callWait:
		return s.record(ctx, method, queue, id)
	}
	return nil, fmt.Errorf("a child process asked for %.32q, which this process does not know", method)
}

func (s server) progress(ctx context.Context, r *codec.Reader) error {
	p := readProgress(r)
	if err := r.Done(); err != nil {
		return fmt.Errorf("read progress: %w", err)
	}
	s.backend.Progress(ctx, p)
	return nil
}

// queue queues runs. The parent sets their lineage: a child could send any.
func (s server) queue(ctx context.Context, method string, r *codec.Reader) error {
	runs, err := readRuns(r)
	if err != nil {
		return err
	}
	for _, queued := range runs {
		s.setLineage(queued)
	}
	if method == callQueue || len(runs) == 0 {
		return s.backend.Queue(ctx, runs...)
	}
	return s.backend.QueueGroup(ctx, runs[0], runs[1:]...)
}

func (s server) setLineage(queued *broker.TaskRun) {
	for _, member := range queued.Links.OrZero().Members {
		s.setLineage(member)
	}
	queued.ParentID, queued.RootID = s.run.ID, s.run.RootID
	if queued.RootID == "" {
		queued.RootID = s.run.ID
	}
}

func (s server) record(ctx context.Context, method, queue, id string) ([]byte, error) {
	records := s.backend.Records()
	if records == nil {
		return nil, broker.ErrNoRecord
	}
	get := records.Record
	if method == callWait {
		get = records.WaitRecord
	}
	record, err := get(ctx, queue, id)
	if err != nil {
		return nil, err
	}
	return appendRecord(nil, record), nil
}

// maxMessage is how many bytes of an error's text travel.
const maxMessage = 8 << 10

// appendError appends an error: its place in sentinels or 0, its text, and the index
// and id of each run that a [broker.DuplicateError] names.
func appendError(b []byte, err error) []byte {
	n := 1 + slices.IndexFunc(sentinels, func(sentinel error) bool { return errors.Is(err, sentinel) })
	b = codec.AppendString(codec.AppendInt(b, int64(n)), text.Truncate(err.Error(), maxMessage))
	var duplicates *broker.DuplicateError
	if !errors.As(err, &duplicates) {
		return codec.AppendArrayLen(b, 0)
	}
	b = codec.AppendArrayLen(b, 2*len(duplicates.Runs))
	for _, d := range duplicates.Runs {
		b = codec.AppendString(codec.AppendInt(b, int64(d.Index)), d.ID)
	}
	return b
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
	b = appendFailure(b, record.Failure)
	b = codec.AppendArrayLen(b, 2*len(record.Successors))
	for _, ref := range record.Successors {
		b = codec.AppendString(codec.AppendString(b, ref.Queue), ref.ID)
	}
	if record.Progress == nil {
		return codec.AppendBool(b, false)
	}
	return appendProgress(codec.AppendBool(b, true), record.Progress)
}

// appendFailure appends whether there is a failure, and the failure.
func appendFailure(b []byte, f *broker.Failure) []byte {
	if f == nil {
		return codec.AppendBool(b, false)
	}
	b = codec.AppendBool(b, true)
	return codec.AppendString(codec.AppendString(codec.AppendString(b, string(f.Kind)), f.Message), f.Stack)
}

func appendProgress(b []byte, p *broker.Progress) []byte {
	return codec.AppendString(codec.AppendInt(codec.AppendInt(b, p.Done), p.Total), p.Note)
}

func readProgress(r *codec.Reader) broker.Progress {
	return broker.Progress{Done: r.Int64(), Total: r.Int64(), Note: r.String()}
}

// appendID returns the request about a run or a schedule of a queue.
func appendID(queue, id string) []byte {
	return codec.AppendString(codec.AppendString(nil, queue), id)
}

func readID(r *codec.Reader) (queue, id string, err error) {
	queue, id = r.String(), r.String()
	return queue, id, r.Done()
}

func readRecord(r *codec.Reader) (*broker.Record, error) {
	record := &broker.Record{ID: r.String(), Task: r.String(), Queue: r.String(), ParentID: r.String(), State: broker.State(r.String())}
	record.Attempt, record.Result = r.Int(), r.Bytes()
	if r.Bool() {
		record.Failure = &broker.Failure{Kind: broker.FailureKind(r.String()), Message: r.String(), Stack: r.String()}
	}
	for left := r.ArrayLen(); left > 0 && r.More(); left -= 2 {
		record.Successors = append(record.Successors, broker.RunRef{Queue: r.String(), ID: r.String()})
	}
	if r.Bool() {
		p := readProgress(r)
		record.Progress = &p
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read a record: %w", err)
	}
	return record, nil
}
