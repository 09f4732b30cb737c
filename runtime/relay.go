package runtime

import (
	"context"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/relay"
)

// serveCalls returns the function that serves the calls of runs in child processes.
func serveCalls(c *Client) func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
	return func(ctx context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
		return relay.Serve(ctx, relayBackend{c}, run, method, body), nil
	}
}

// relayBackend serves the calls of a run in a child process with the consumer's client. It
// checks sizes, which the child does not.
type relayBackend struct{ client *Client }

func (b relayBackend) Queue(ctx context.Context, runs ...*broker.TaskRun) error {
	if err := b.client.checkSizes(runs); err != nil {
		return err
	}
	return b.client.queue(ctx, runs...)
}

func (b relayBackend) QueueGroup(ctx context.Context, then *broker.TaskRun, members ...*broker.TaskRun) error {
	call := enqueueCall{runs: members, gathering: then}
	if err := b.client.checkSizes(call.all()); err != nil {
		return err
	}
	return b.client.queueCall(ctx, call)
}

func (b relayBackend) Cancel(ctx context.Context, queue, id string) error {
	return b.client.cancel(ctx, queue, id)
}

// Progress reports the progress of the run that ctx, made by the consumer, belongs to.
func (b relayBackend) Progress(ctx context.Context, p broker.Progress) {
	Progress(ctx, p.Done, p.Total, p.Note)
}

func (b relayBackend) Records() relay.Records {
	records, _ := b.client.broker.(recorder)
	return records
}

func (b relayBackend) Schedules() (relay.Schedules, error) {
	keeper, err := b.client.scheduleKeeper()
	if err != nil {
		return nil, err
	}
	return checkedSchedules{keeper, b.client}, nil
}

// checkedSchedules refuses schedules whose runs are too large.
type checkedSchedules struct {
	scheduleKeeper
	client *Client
}

func (s checkedSchedules) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	if err := s.client.checkPayload(schedule.Run.Payload); err != nil {
		return err
	}
	return s.scheduleKeeper.PutSchedule(ctx, schedule)
}
