package relay

import (
	"context"
	"errors"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/subprocess"
)

// Broker is the broker of a child process: it passes a client's requests to the parent.
// The parent checks what it queues.
type Broker struct{ parent *subprocess.Parent }

// NewBroker returns the broker of a run in a child process.
func NewBroker(parent *subprocess.Parent) Broker { return Broker{parent} }

// QueueTasks queues runs.
func (b Broker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	return b.queue(ctx, callQueue, runs)
}

// QueueGroup queues a group: on the way to the parent the gathering run comes first.
func (b Broker) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	return b.queue(ctx, callGroup, append([]*broker.TaskRun{then}, members...))
}

func (b Broker) queue(ctx context.Context, method string, runs []*broker.TaskRun) error {
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

// Cancel cancels a run. The parent sets the failure.
func (b Broker) Cancel(ctx context.Context, queue, id string, _ broker.Failure) error {
	_, err := b.call(ctx, callCancel, appendID(queue, id))
	return err
}

// Record returns the record of a run.
func (b Broker) Record(ctx context.Context, queue, id string) (*broker.Record, error) {
	return b.record(ctx, callRecord, queue, id)
}

// WaitRecord blocks until the run has ended, and returns its record.
func (b Broker) WaitRecord(ctx context.Context, queue, id string) (*broker.Record, error) {
	return b.record(ctx, callWait, queue, id)
}

func (b Broker) record(ctx context.Context, method, queue, id string) (*broker.Record, error) {
	r, err := b.call(ctx, method, appendID(queue, id))
	if err != nil {
		return nil, err
	}
	return readRecord(r)
}

// call sends a request to the parent and returns a reader of its answer, or the error
// that the parent answered with.
func (b Broker) call(ctx context.Context, method string, body []byte) (*codec.Reader, error) {
	answer, err := b.parent.Call(ctx, method, body)
	if err != nil {
		return nil, err
	}
	r := codec.NewReader(answer)
	failed := r.Bool()
	if !failed && r.Err() == nil {
		return r, nil
	}
	return nil, readError(r)
}

// readError reads an error that appendError has written.
func readError(r *codec.Reader) error {
	n, message := r.Int(), r.String()
	var duplicates broker.DuplicateError
	for left := r.ArrayLen(); left > 0 && r.More(); left -= 2 {
		duplicates.Runs = append(duplicates.Runs, broker.Duplicate{Index: r.Int(), ID: r.String()})
	}
	if err := r.Done(); err != nil {
		return fmt.Errorf("read the parent's answer: %w", err)
	}
	if len(duplicates.Runs) > 0 {
		return &duplicates
	}
	if n > 0 && n <= len(sentinels) {
		return &remoteError{message, sentinels[n-1]}
	}
	return errors.New(message)
}

// remoteError is an error of the parent that wraps a sentinel.
type remoteError struct {
	message  string
	sentinel error
}

func (e *remoteError) Error() string { return e.message }
func (e *remoteError) Unwrap() error { return e.sentinel }
