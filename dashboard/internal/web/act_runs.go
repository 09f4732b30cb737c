package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// mostSelected is how many runs a form can name.
const mostSelected = 1000

// runsIn returns the ids and the queues that a form names: of several ids a queue for each.
func runsIn(form url.Values) (ids, queues []string, err error) {
	ids, queues = form["id"], form["queue"]
	switch {
	case len(ids) == 0:
		return nil, nil, badRequest("the form names no run; select some first")
	case len(ids) > mostSelected:
		return nil, nil, badRequest("the form names %d runs; the most is %d", len(ids), mostSelected)
	}
	return ids, queues, nil
}

// cancelRuns cancels a run, or those that a person selected.
func cancelRuns(ctx context.Context, s *site, form url.Values) (n int, err error) {
	ids, queues, err := runsIn(form)
	if err != nil {
		return 0, err
	}
	if len(ids) == 1 {
		_, err := s.Inspector.Cancel(ctx, ids[0], queues...)
		return 1, conflictOf(err)
	}
	done, err := s.Inspector.CancelAll(ctx, taskrt.RunFilter{Queues: queues, IDs: ids}, taskrt.ChangeOptions{})
	return changed(done, err)
}

// retryRuns queues dead letters again.
func retryRuns(ctx context.Context, s *site, form url.Values) (n int, err error) {
	ids, queues, err := runsIn(form)
	if err != nil {
		return 0, err
	}
	done, err := s.Inspector.Requeue(ctx, taskrt.RunFilter{Queues: queues, IDs: ids}, taskrt.ChangeOptions{})
	return changed(done, err)
}

// changed returns how many runs a change did. It is an error if one of those that were named
// stayed, which says why.
func changed(done *taskrt.ChangeResult, err error) (int, error) {
	switch {
	case err != nil:
		return 0, err
	case len(done.Stays) > 0:
		stay := done.Stays[0]
		return 0, statusError{http.StatusConflict, errors.New("run " + stay.ID + " of queue " + stay.Queue + " stays as it is: " + stay.Why)}
	case done.Changed == 0:
		return 0, statusError{http.StatusConflict, errors.New("none of these runs is there any more: they ended, or somebody else was quicker")}
	}
	return done.Changed, nil
}

// conflictOf makes the error of a run that is not there any more one of the person's.
func conflictOf(err error) error {
	if errors.Is(err, taskrt.ErrNoRecord) {
		return statusError{http.StatusConflict, err}
	}
	return err
}
