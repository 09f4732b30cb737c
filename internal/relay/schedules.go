package relay

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
)

// PutSchedule has the parent store a schedule.
func (b Broker) PutSchedule(ctx context.Context, schedule *broker.Schedule) error {
	body, err := appendSchedule(nil, schedule)
	if err != nil {
		return err
	}
	r, err := b.call(ctx, callPutSchedule, body)
	if err != nil {
		return err
	}
	stored, err := readOneSchedule(r)
	if err != nil {
		return fmt.Errorf("read the parent's answer: %w", err)
	}
	schedule.Since, schedule.Last, schedule.Revision = stored.Since, stored.Last, stored.Revision
	return nil
}

// DeleteSchedule has the parent delete a schedule.
func (b Broker) DeleteSchedule(ctx context.Context, queue, id string) error {
	_, err := b.call(ctx, callDeleteSchedule, appendID(queue, id))
	return err
}

// Schedules asks the parent for schedules.
func (b Broker) Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error) {
	r, err := b.call(ctx, callSchedules, appendStrings(queues))
	if err != nil {
		return nil, err
	}
	schedules, err := readSchedules(r)
	if err != nil {
		return nil, fmt.Errorf("read the parent's answer: %w", err)
	}
	return schedules, nil
}

// schedules answers the calls about dynamic schedules.
func (s server) schedules(ctx context.Context, method string, r *codec.Reader) ([]byte, error) {
	keeper, err := s.backend.Schedules()
	if err != nil {
		return nil, err
	}
	switch method {
	case callPutSchedule:
		return s.putSchedule(ctx, keeper, r)
	case callDeleteSchedule:
		queue, id, err := readID(r)
		if err != nil {
			return nil, fmt.Errorf("read the id of a schedule: %w", err)
		}
		return nil, keeper.DeleteSchedule(ctx, queue, id)
	}
	return listSchedules(ctx, keeper, r)
}

func (s server) putSchedule(ctx context.Context, keeper Schedules, r *codec.Reader) ([]byte, error) {
	schedule, err := readOneSchedule(r)
	if err != nil {
		return nil, fmt.Errorf("read a schedule: %w", err)
	}
	s.setLineage(schedule.Run)
	if err := keeper.PutSchedule(ctx, schedule); err != nil {
		return nil, err
	}
	return appendSchedule(nil, schedule)
}

func listSchedules(ctx context.Context, keeper Schedules, r *codec.Reader) ([]byte, error) {
	queues, err := readStrings(r)
	if err != nil {
		return nil, fmt.Errorf("read names of queues: %w", err)
	}
	schedules, err := keeper.Schedules(ctx, queues...)
	if err != nil {
		return nil, err
	}
	return appendSchedules(schedules)
}

// appendSchedules leaves out schedules whose stored bytes cannot be read: they have no task.
func appendSchedules(schedules []*broker.Schedule) (b []byte, err error) {
	schedules = slices.DeleteFunc(schedules, func(schedule *broker.Schedule) bool { return schedule.Run.Task == "" })
	b = codec.AppendArrayLen(nil, len(schedules))
	for _, schedule := range schedules {
		if b, err = appendSchedule(b, schedule); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func readSchedules(r *codec.Reader) ([]*broker.Schedule, error) {
	n := r.ArrayLen()
	schedules := make([]*broker.Schedule, 0, codec.Prealloc(n))
	for ; n > 0 && r.More(); n-- {
		schedule, err := readSchedule(r)
		if err != nil {
			return nil, err
		}
		schedules = append(schedules, schedule)
	}
	return schedules, r.Done()
}

// readOneSchedule reads a schedule that is all there is to read.
func readOneSchedule(r *codec.Reader) (*broker.Schedule, error) {
	schedule, err := readSchedule(r)
	if err == nil {
		err = r.Done()
	}
	return schedule, err
}

func appendSchedule(b []byte, schedule *broker.Schedule) ([]byte, error) {
	run, err := schedule.Run.MarshalBinary()
	if err != nil {
		return nil, err
	}
	b = codec.AppendString(codec.AppendString(codec.AppendString(b, schedule.ID), schedule.Spec), schedule.Zone)
	b = codec.AppendBytes(b, run)
	b = appendTime(appendTime(b, schedule.Since), schedule.Last)
	return codec.AppendInt(b, schedule.Revision), nil
}

func readSchedule(r *codec.Reader) (*broker.Schedule, error) {
	schedule := &broker.Schedule{ID: r.String(), Spec: r.String(), Zone: r.String(), Run: new(broker.TaskRun)}
	run := r.Bytes()
	schedule.Since, schedule.Last, schedule.Revision = readTime(r), readTime(r), r.Int64()
	if err := r.Err(); err != nil {
		return nil, err
	}
	if err := schedule.Run.UnmarshalBinary(run); err != nil {
		return nil, err
	}
	return schedule, nil
}

// appendTime appends a time in nanoseconds since the Unix epoch, 0 for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return codec.AppendInt(b, 0)
	}
	return codec.AppendInt(b, t.UnixNano())
}

func readTime(r *codec.Reader) time.Time {
	if ns := r.Int64(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Time{}
}

func appendStrings(list []string) []byte {
	b := codec.AppendArrayLen(nil, len(list))
	for _, s := range list {
		b = codec.AppendString(b, s)
	}
	return b
}

func readStrings(r *codec.Reader) (list []string, err error) {
	for n := r.ArrayLen(); n > 0 && r.More(); n-- {
		list = append(list, r.String())
	}
	return list, r.Done()
}
