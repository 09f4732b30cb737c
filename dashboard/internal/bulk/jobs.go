package bulk

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	maxRunning = 4                // jobs at once
	maxKept    = 100              // jobs that have ended
	keptFor    = time.Hour        // after its end
	countTime  = 10 * time.Second // for a dry run
)

// Jobs are the jobs of a process. Its methods may be called concurrently.
type Jobs struct {
	inspector *taskrt.Inspector
	logger    *slog.Logger

	mu      sync.Mutex
	jobs    map[string]*job
	servers map[*http.Server]bool // whose shutdown stops the jobs
}

// New returns no jobs, for the runs that an inspector finds.
func New(inspector *taskrt.Inspector, logger *slog.Logger) *Jobs {
	return &Jobs{inspector: inspector, logger: logger, jobs: make(map[string]*job), servers: make(map[*http.Server]bool)}
}

// Errors of the methods of Jobs.
var (
	// ErrBusy: as many jobs run as may.
	ErrBusy = fmt.Errorf("%d changes of all run already; wait for the end of one, or stop it", maxRunning)
	// ErrNoJob: no job has the id, or it has ended long ago.
	ErrNoJob = errors.New("this process has no such job; it forgets one an hour after its end")
)

// Count returns how much matches a request. It looks for some seconds at most. It returns an
// error if the user of ctx may not do that.
func (j *Jobs) Count(ctx context.Context, r Request) (*Count, error) {
	apply, err := r.check(ctx)
	if err != nil {
		return nil, err
	}
	looking, cancel := context.WithTimeout(ctx, countTime)
	defer cancel()
	result, err := apply(j.inspector, looking, r.Filter, taskrt.ChangeOptions{DryRun: true})
	if result != nil && err != nil && looking.Err() != nil && ctx.Err() == nil {
		return &Count{*result, false}, nil
	}
	if err != nil {
		return nil, err
	}
	return &Count{*result, true}, nil
}

// check returns how a request is done, or an error if the user of ctx may not do it.
func (r Request) check(ctx context.Context) (change, error) {
	action, apply, err := r.Kind.of()
	if err != nil {
		return nil, err
	}
	if r.PerSecond < 0 {
		return nil, &RequestError{"a rate cannot be negative"}
	}
	return apply, access.Check(ctx, action, r.Filter.Task)
}

// Start begins a job of the user of ctx, which ends later. It returns [ErrBusy], or an error
// if the user may not do that.
func (j *Jobs) Start(ctx context.Context, r Request) (Status, error) {
	apply, err := r.check(ctx)
	if err != nil {
		return Status{}, err
	}
	u := access.UserOf(ctx)
	j.stopWith(ctx)
	working, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	b := &job{cancel: cancel, ended: make(chan struct{}), status: Status{
		ID: rand.Text(), User: u.Name, Request: r, State: Running, Started: time.Now(),
	}}
	if err := j.add(b); err != nil {
		cancel(nil)
		return Status{}, err
	}
	status := b.status
	go j.run(working, b, apply)
	return status, nil
}

// stopWith has the shutdown of the server of a request stop the jobs: the process ends.
func (j *Jobs) stopWith(ctx context.Context) {
	server, ok := ctx.Value(http.ServerContextKey).(*http.Server)
	j.mu.Lock()
	defer j.mu.Unlock()
	if ok && !j.servers[server] {
		j.servers[server] = true
		server.RegisterOnShutdown(j.stopAll)
	}
}

// stopAll stops all jobs. They end soon after.
func (j *Jobs) stopAll() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.jobs {
		b.cancel(errStopped)
	}
}

// add adds a job, and forgets old ones.
func (j *Jobs) add(b *job) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	running := 0
	for id, other := range j.jobs {
		switch {
		case other.status.State == Running:
			running++
		case time.Since(other.status.Ended) > keptFor:
			delete(j.jobs, id)
		}
	}
	if running >= maxRunning {
		return ErrBusy
	}
	for len(j.jobs)-running >= maxKept {
		delete(j.jobs, j.oldestEnded())
	}
	j.jobs[b.status.ID] = b
	return nil
}

// oldestEnded returns the id of the job that ended first. The caller holds the lock.
func (j *Jobs) oldestEnded() (id string) {
	var first time.Time
	for _, b := range j.jobs {
		if s := b.status; s.State != Running && (id == "" || s.Ended.Before(first)) {
			id, first = s.ID, s.Ended
		}
	}
	return id
}

// run does a job and logs its end.
func (j *Jobs) run(ctx context.Context, b *job, apply change) {
	defer close(b.ended)
	defer b.cancel(nil)
	r := b.status.Request
	result, err := apply(j.inspector, ctx, r.Filter, taskrt.ChangeOptions{PerSecond: r.PerSecond, Progress: func(c taskrt.Changes) {
		j.mu.Lock()
		defer j.mu.Unlock()
		b.status.Changes = c
	}})
	j.mu.Lock()
	defer j.mu.Unlock()
	s := &b.status
	if result != nil {
		s.Changes, s.Missing, s.Skipped = result.Changes, result.Missing, result.Skipped
	}
	s.Ended, s.State = time.Now(), Done
	switch {
	case err != nil && context.Cause(ctx) == errStopped:
		s.State = Stopped
	case err != nil:
		s.State, s.Err = Failed, err
	case len(s.Skipped) > 0:
		s.State, s.Err = Failed, fmt.Errorf("%d queues could not be read: %w", len(s.Skipped), s.Skipped[0].Err)
	}
	args := []any{"user", s.User, "action", r.Kind.Action(), "outcome", s.State, "job", s.ID, "kind", r.Kind, "changed", s.Changed, "stayed", s.Stayed, "took", s.Ended.Sub(s.Started)}
	if s.Err != nil {
		args = append(args, "error", s.Err)
	}
	j.logger.Info("change of all ended", args...)
}

// Stop stops a job. What it changed stays so. It returns [ErrNoJob], or an error if the user
// of ctx may not do that. One that has ended stays as it is.
func (j *Jobs) Stop(ctx context.Context, id string) (Status, error) {
	b, err := j.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	if u := access.UserOf(ctx); u.Name != b.status.User || !u.Has(b.status.Kind.Action()) {
		if err := access.Check(ctx, b.status.Kind.Action(), ""); err != nil {
			return Status{}, err
		}
	}
	b.cancel(errStopped)
	return j.Wait(ctx, id)
}

// find returns a job that the user of ctx may see: its own, and those that it could start.
func (j *Jobs) find(ctx context.Context, id string) (*job, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	b := j.jobs[id]
	if b == nil || !visible(ctx, &b.status) {
		return nil, ErrNoJob
	}
	return b, nil
}

func visible(ctx context.Context, s *Status) bool {
	u := access.UserOf(ctx)
	return u.Allows(access.Read, s.Filter.Task) || u != nil && u.Name == s.User
}

// Get returns a job, or [ErrNoJob].
func (j *Jobs) Get(ctx context.Context, id string) (Status, error) {
	b, err := j.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return b.status, nil
}

// Wait returns a job once it has ended or ctx has, or [ErrNoJob].
func (j *Jobs) Wait(ctx context.Context, id string) (Status, error) {
	b, err := j.find(ctx, id)
	if err != nil {
		return Status{}, err
	}
	select {
	case <-b.ended:
	case <-ctx.Done():
	}
	return j.Get(ctx, id)
}

// List returns the jobs that the user of ctx may see, the newest first.
func (j *Jobs) List(ctx context.Context) (all []Status) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range j.jobs {
		if visible(ctx, &b.status) {
			all = append(all, b.status)
		}
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Or(b.Started.Compare(a.Started), cmp.Compare(a.ID, b.ID)) })
	return all
}

// HTTPStatus returns the status of a reply for an error of Jobs, and 0 for another error.
func HTTPStatus(err error) int {
	switch {
	case errors.Is(err, ErrBusy):
		return http.StatusTooManyRequests
	case errors.Is(err, ErrNoJob):
		return http.StatusNotFound
	}
	var coded interface{ HTTPStatus() int }
	if errors.As(err, &coded) {
		return coded.HTTPStatus()
	}
	return 0
}
