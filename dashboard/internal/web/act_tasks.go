package web

import (
	"context"
	"net/url"
)

// disableTask stops the delivery of a task's runs in its queue.
func disableTask(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, s.switchTask(ctx, form, s.Inspector.Disable)
}

func enableTask(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, s.switchTask(ctx, form, s.Inspector.Enable)
}

func (s *site) switchTask(ctx context.Context, form url.Values, do func(ctx context.Context, task string, queues ...string) error) error {
	task, err := inForm(form, "task")
	if err != nil {
		return err
	}
	for _, queue := range form["queue"] {
		if err := checkQueue(queue); err != nil {
			return err
		}
	}
	return do(ctx, task, form["queue"]...)
}
