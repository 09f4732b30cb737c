package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// runSchedule queues the run of a schedule once, now. Its ticks stay as they are.
func runSchedule(ctx context.Context, s *site, form url.Values) (int, error) {
	task, err := inForm(form, "task")
	if err != nil {
		return 0, err
	}
	queue, err := inForm(form, "queue")
	if err != nil {
		return 0, err
	}
	if err := checkQueue(queue); err != nil {
		return 0, err
	}
	t, payload, err := s.scheduledRun(ctx, task, queue, form.Get("schedule"))
	if err != nil {
		return 0, err
	}
	run, err := s.Client.QueueTask(ctx, t, payload, taskrt.OnQueue(queue))
	var duplicates *taskrt.DuplicateError
	switch {
	case errors.Is(err, taskrt.ErrNotReplicated): // it is queued
	case errors.As(err, &duplicates), errors.Is(err, taskrt.ErrQueueFull):
		return 0, statusError{http.StatusConflict, err}
	case err != nil:
		return 0, err
	}
	access.EntryOf(ctx).Set(access.Queue, t.Name(), run.ID)
	back, err := link("run", "id", run.ID, "queue", run.Queue)
	form.Set("back", back)
	return 0, err
}

// endSchedule ends a schedule that was made at run time.
func endSchedule(ctx context.Context, s *site, form url.Values) (int, error) {
	queue, err := inForm(form, "queue")
	if err != nil {
		return 0, err
	}
	id, err := inForm(form, "schedule")
	if err != nil {
		return 0, err
	}
	if err := checkRef(broker.RunRef{ID: id, Queue: queue}); err != nil {
		return 0, err
	}
	if access.UserOf(ctx).Restricted() { // the form cannot say which task it is of
		if _, _, err := s.scheduledRun(ctx, form.Get("task"), queue, id); err != nil {
			return 0, err
		}
	}
	err = taskrt.Unschedule(taskrt.WithClient(ctx, s.Client), queue, id)
	if errors.Is(err, taskrt.ErrNoSchedule) {
		return 0, notFound(err)
	}
	return 0, err
}
