package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// mostSelected is how many runs a form can name.
const mostSelected = 1000

// runsIn returns the runs that a form names: one by its id and queue, or those that were
// selected, of which each is a query of both.
func runsIn(form url.Values) (runs []broker.RunRef, err error) {
	if id := form.Get("id"); id != "" {
		return []broker.RunRef{{Queue: form.Get("queue"), ID: id}}, nil
	}
	for _, selected := range form["run"] {
		q, err := url.ParseQuery(selected)
		if err != nil || q.Get("id") == "" || q.Get("queue") == "" {
			return nil, badRequest("the form names a run that cannot be read: %.80q", selected)
		}
		runs = append(runs, broker.RunRef{Queue: q.Get("queue"), ID: q.Get("id")})
	}
	switch {
	case len(runs) == 0:
		return nil, badRequest("no run is selected")
	case len(runs) > mostSelected:
		return nil, badRequest("%d runs are selected; the most is %d", len(runs), mostSelected)
	}
	return runs, nil
}

// eachRun does something to each run that a form names and the user may do it to. Runs that
// are not there any more are skipped, unless none is.
func eachRun(action access.Action, do func(ctx context.Context, s *site, run broker.RunRef) error) func(context.Context, *site, url.Values) (int, error) {
	return func(ctx context.Context, s *site, form url.Values) (n int, err error) {
		runs, err := runsIn(form)
		if err != nil {
			return 0, err
		}
		var gone error
		for _, run := range runs {
			if err := checkRef(run); err != nil {
				return n, err
			}
			if err := s.checkRun(ctx, action, run); err != nil {
				return n, err
			}
			switch err := do(ctx, s, run); {
			case errors.Is(err, taskrt.ErrNoRecord):
				gone = err
			case err != nil && n > 0:
				return n, fmt.Errorf("%d of %d are done: %w", n, len(runs), err)
			case err != nil:
				return 0, err
			default:
				n++
			}
		}
		if n == 0 {
			return 0, statusError{http.StatusConflict, gone}
		}
		return n, nil
	}
}

// checkRun refuses what the user may not do to a run. A form cannot say which task it is of.
func (s *site) checkRun(ctx context.Context, action access.Action, run broker.RunRef) error {
	if !access.UserOf(ctx).Restricted() {
		return access.Check(ctx, action, "")
	}
	d, err := s.runDetail(ctx, run)
	if err != nil {
		return err
	}
	if !access.UserOf(ctx).Allows(action, d.Task) {
		if err := readableRun(ctx, d.Task); err != nil { // the refusal would name its task
			return err
		}
	}
	return access.Check(ctx, action, d.Task)
}

// runDetail returns what is known of a run, in any queue if none is named.
func (s *site) runDetail(ctx context.Context, run broker.RunRef) (*taskrt.RunDetail, error) {
	if err := checkRef(run); err != nil {
		return nil, err
	}
	if run.Queue != "" {
		return s.Inspector.Run(ctx, run.ID, run.Queue)
	}
	d, err := s.Inspector.Run(ctx, run.ID)
	var ambiguous *taskrt.AmbiguousError
	switch {
	case errors.As(err, &ambiguous) && access.UserOf(ctx).Restricted(): // to whom it may not name the queues
		return nil, statusError{http.StatusConflict, fmt.Errorf("several queues have a run %s: add &queue= to the address", run.ID)}
	case errors.As(err, &ambiguous):
		return nil, statusError{http.StatusConflict, fmt.Errorf("several queues have a run %s: add &queue= to the address, with one of %s", run.ID, strings.Join(ambiguous.Queues, ", "))}
	}
	return d, err
}

// checkRef refuses an id and a queue that no run can have. An empty queue is any.
func checkRef(run broker.RunRef) error {
	if err := (&broker.TaskRun{ID: run.ID, Task: "-", Queue: cmp.Or(run.Queue, "-")}).Validate(); err != nil {
		return badRequest("there is no such run: %v", err)
	}
	return nil
}

// checkQueue refuses a name that no queue can have.
func checkQueue(name string) error {
	if err := (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate(); err != nil {
		return badRequest("no queue has this name: %v", err)
	}
	return nil
}

func cancelRun(ctx context.Context, s *site, run broker.RunRef) (err error) {
	if run.Queue == "" {
		_, err = s.Inspector.Cancel(ctx, run.ID)
	} else {
		_, err = s.Inspector.Cancel(ctx, run.ID, run.Queue)
	}
	return err
}

// retryRun queues a dead letter again.
func retryRun(ctx context.Context, s *site, run broker.RunRef) error {
	return s.changeDead(run, func(c broker.Controls) (int, error) { return c.RequeueDead(ctx, run.Queue, run.ID) })
}

// deleteRun deletes a dead letter.
func deleteRun(ctx context.Context, s *site, run broker.RunRef) error {
	return s.changeDead(run, func(c broker.Controls) (int, error) { return c.DeleteDead(ctx, run.Queue, run.ID) })
}

func (s *site) changeDead(run broker.RunRef, change func(broker.Controls) (int, error)) error {
	if run.Queue == "" {
		return badRequest("the form lacks queue")
	}
	controls, ok := s.Broker.(broker.Controls)
	if !ok {
		return statusError{http.StatusNotImplemented, errors.New("this broker has no broker.Controls")}
	}
	n, err := change(controls)
	var duplicate *taskrt.DuplicateError
	switch {
	case errors.As(err, &duplicate) && len(duplicate.Runs) > 0:
		return statusError{http.StatusConflict, fmt.Errorf("run %s of queue %s stays a dead letter: run %s lives, and has its id or its unique key; wait for its end, or cancel it", run.ID, run.Queue, duplicate.Runs[0].ID)}
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("%w: run %s is no dead letter of queue %s any more", taskrt.ErrNoRecord, run.ID, run.Queue)
	}
	return nil
}

// runNow makes a delayed run due at once.
func runNow(ctx context.Context, s *site, run broker.RunRef) error {
	if run.Queue == "" {
		return badRequest("the form lacks queue")
	}
	done, err := s.Inspector.RunNow(ctx, taskrt.RunFilter{Queues: []string{run.Queue}, IDs: []string{run.ID}}, taskrt.ChangeOptions{})
	switch {
	case err != nil:
		return err
	case done.Changed == 0 && len(done.Stays) > 0:
		return statusError{http.StatusConflict, fmt.Errorf("run %s stays as it is: %s", run.ID, done.Stays[0].Why)}
	case done.Changed == 0:
		return fmt.Errorf("%w: run %s of queue %s is not delayed any more", taskrt.ErrNoRecord, run.ID, run.Queue)
	}
	return nil
}
