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
func (b Broker) PutSchedule(ctx context.Context, e *broker.Schedule) error {
	body, err := appendEntry(nil, e)
	if err != nil {
		return err
	}
	r, err := b.call(ctx, callPutEntry, body)
	if err != nil {
		return err
	}
	stored, err := readEntry(r)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return fmt.Errorf("read the parent's answer: %w", err)
	}
	e.Since, e.Last, e.Revision = stored.Since, stored.Last, stored.Revision
	return nil
}

// DeleteSchedule has the parent delete a schedule.
func (b Broker) DeleteSchedule(ctx context.Context, queue, id string) error {
	_, err := b.call(ctx, callDeleteEntry, codec.AppendString(codec.AppendString(nil, queue), id))
	return err
}

// Schedules asks the parent for schedules.
func (b Broker) Schedules(ctx context.Context, queues ...string) ([]*broker.Schedule, error) {
	body := codec.AppendArrayLen(nil, len(queues))
	for _, queue := range queues {
		body = codec.AppendString(body, queue)
	}
	r, err := b.call(ctx, callEntries, body)
	if err != nil {
		return nil, err
	}
	n := r.ArrayLen()
	entries := make([]*broker.Schedule, 0, codec.Prealloc(n))
	for ; n > 0 && r.More(); n-- {
		e, err := readEntry(r)
		if err != nil {
			return nil, fmt.Errorf("read the parent's answer: %w", err)
		}
		entries = append(entries, e)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read the parent's answer: %w", err)
	}
	return entries, nil
}

// schedules answers the calls about dynamic schedules.
func (s server) schedules(ctx context.Context, method string, r *codec.Reader) ([]byte, error) {
	t, err := s.backend.Schedules()
	if err != nil {
		return nil, err
	}
	switch method {
	case callPutEntry:
		return s.putEntry(ctx, t, r)
	case callDeleteEntry:
		queue, id := r.String(), r.String()
		if err := r.Done(); err != nil {
			return nil, fmt.Errorf("read the id of a schedule: %w", err)
		}
		return nil, t.DeleteSchedule(ctx, queue, id)
	}
	return listEntries(ctx, t, r)
}

func (s server) putEntry(ctx context.Context, t Schedules, r *codec.Reader) ([]byte, error) {
	e, err := readEntry(r)
	if err == nil {
		err = r.Done()
	}
	if err != nil {
		return nil, fmt.Errorf("read a schedule: %w", err)
	}
	s.setLineage(e.Run)
	if err := t.PutSchedule(ctx, e); err != nil {
		return nil, err
	}
	return appendEntry(nil, e)
}

func listEntries(ctx context.Context, t Schedules, r *codec.Reader) ([]byte, error) {
	var queues []string
	for n := r.ArrayLen(); n > 0 && r.More(); n-- {
		queues = append(queues, r.String())
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("read names of queues: %w", err)
	}
	entries, err := t.Schedules(ctx, queues...)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e *broker.Schedule) bool { return e.Run.Task == "" }) // its stored bytes cannot be read
	b := codec.AppendArrayLen(nil, len(entries))
	for _, e := range entries {
		if b, err = appendEntry(b, e); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendEntry(b []byte, e *broker.Schedule) ([]byte, error) {
	run, err := e.Run.MarshalBinary()
	if err != nil {
		return nil, err
	}
	b = codec.AppendBytes(codec.AppendString(codec.AppendString(codec.AppendString(b, e.ID), e.Spec), e.Zone), run)
	for _, at := range []time.Time{e.Since, e.Last} {
		ns := int64(0)
		if !at.IsZero() {
			ns = at.UnixNano()
		}
		b = codec.AppendInt(b, ns)
	}
	return codec.AppendInt(b, e.Revision), nil
}

func readEntry(r *codec.Reader) (*broker.Schedule, error) {
	e := &broker.Schedule{ID: r.String(), Spec: r.String(), Zone: r.String(), Run: new(broker.TaskRun)}
	run := r.Bytes()
	for _, at := range []*time.Time{&e.Since, &e.Last} {
		if ns := r.Int64(); ns != 0 {
			*at = time.Unix(0, ns).UTC()
		}
	}
	e.Revision = r.Int64()
	if err := r.Err(); err != nil {
		return nil, err
	}
	if err := e.Run.UnmarshalBinary(run); err != nil {
		return nil, err
	}
	return e, nil
}
