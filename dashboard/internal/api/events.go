package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	maxStreams    = 200 // streams of events at once
	streamsOfUser = 100 // of one user
	maxWatched    = 20  // runs that one stream watches
	streamWrite   = 20 * time.Second
	streamQuiet   = 15 * time.Second // after which a comment keeps proxies from closing the stream
	streamMost    = time.Hour        // after which the client connects again, and its access is checked
)

// stream is a stream of events to one client.
type stream struct {
	w      http.ResponseWriter
	extend func()
	wrote  time.Time
	last   map[string][]byte // the data that was sent last, by event
}

// send writes an event, unless its data is that of the last one with this name.
func (s *stream) send(name, key string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if bytes.Equal(s.last[key], data) {
		return nil
	}
	s.last[key] = data
	return s.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, data))
}

func (s *stream) write(text string) error {
	s.extend()
	s.wrote = time.Now()
	if _, err := s.w.Write([]byte(text)); err != nil {
		return err
	}
	return http.NewResponseController(s.w).Flush()
}

// events streams the queues whenever they change, or the runs that the request names until all
// have ended.
func (a *API) events(w http.ResponseWriter, req *http.Request) (any, error) {
	q := queryOf(req, "queue", "run")
	ids, queue := q.values["run"], ""
	for _, name := range q.values["queue"] {
		q.failIf(checkQueue(name))
		queue = name
	}
	switch {
	case len(ids) > maxWatched:
		q.fail(invalid("a stream watches at most %d runs", maxWatched))
	case len(ids) > 0 && len(q.values["queue"]) > 1:
		q.fail(invalid("runs of one queue are watched; name one"))
	}
	if q.err != nil {
		return nil, q.err
	}
	runs, err := a.watched(req, ids, queue)
	if err != nil {
		return nil, err
	}
	leave, ok := a.streams.Enter(access.UserOf(req.Context()))
	if !ok {
		return nil, &codedError{http.StatusTooManyRequests, "too-many-requests", fmt.Sprintf("as many streams of events are open as may: %d of one user, and %d of all", streamsOfUser, maxStreams)}
	}
	defer leave()
	ctx, cancel := context.WithTimeout(req.Context(), streamMost)
	defer cancel()
	s := &stream{w: w, extend: access.Stream(w, streamWrite), last: make(map[string][]byte)}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if s.write("retry: 2000\n\n") != nil {
		return streamed{}, nil
	}
	look := func() (bool, error) { return a.sendQueues(ctx, s, req, q.values["queue"]) }
	if len(ids) > 0 {
		look = func() (bool, error) { return a.sendRuns(ctx, s, runs, mayRead(req)) }
	}
	follow(ctx, s, look)
	return streamed{}, nil
}

// follow calls look once a second until that is done, or the client has gone.
func follow(ctx context.Context, s *stream, look func() (done bool, err error)) {
	every := time.NewTicker(time.Second)
	defer every.Stop()
	for {
		done, err := look()
		if done || err != nil {
			return
		}
		if time.Since(s.wrote) > streamQuiet && s.write(": still here\n\n") != nil {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// failed is the data of an event that the broker could not be asked.
type failed struct {
	Detail string `json:"detail"`
}

// sendQueues sends the queues. All streams share one look a second.
func (a *API) sendQueues(ctx context.Context, s *stream, req *http.Request, only []string) (bool, error) {
	all, err := a.fleet.get(func() ([]queueView, error) {
		reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		defer cancel()
		list, err := a.Inspector.Queues(reading)
		if err != nil {
			return nil, err
		}
		views := []queueView{}
		for _, q := range list.Queues {
			views = append(views, queueOf(q))
		}
		return views, nil
	})
	if err != nil {
		return false, s.send("error", "error", failed{err.Error()})
	}
	delete(s.last, "error")
	sees := a.seesQueue(req)
	v := queuesView{Queues: []queueView{}}
	for _, q := range all {
		if sees(q.Queue) && (len(only) == 0 || slices.Contains(only, q.Queue)) {
			q.Disabled = append([]string{}, q.Disabled...)
			v.Queues = append(v.Queues, a.restrict(req, q))
		}
	}
	return false, s.send("queues", "queues", v)
}

// watched returns the runs that a stream watches. Each needs a record.
func (a *API) watched(req *http.Request, ids []string, queue string) (runs []refView, err error) {
	var queues []string
	if queue != "" {
		queues = []string{queue}
	}
	for _, id := range ids {
		d, err := a.find(req, id, queues)
		if err != nil {
			return nil, err
		}
		if err := access.Check(req.Context(), access.Read, d.Task); err != nil {
			return nil, err
		}
		if d.Record == nil {
			return nil, refused("no record of run %.64q is kept, so it cannot be watched: queue it with keep, such as keep=1h", id)
		}
		runs = append(runs, refView{d.ID, d.Queue})
	}
	return runs, nil
}

// sendRuns sends the runs that have changed. It is done once all have ended.
func (a *API) sendRuns(ctx context.Context, s *stream, runs []refView, sees func(task string) bool) (done bool, err error) {
	records, ok := a.Broker.(broker.Records)
	done = true
	for _, run := range runs {
		if !ok {
			break
		}
		r, err := records.Record(ctx, run.Queue, run.ID)
		if err == nil && !sees(r.Task) { // another run has the id by now
			err = broker.ErrNoRecord
		}
		switch {
		case errors.Is(err, broker.ErrNoRecord):
			err = s.send("gone", run.Queue+" "+run.ID, run)
		case err != nil:
			done = false
			err = s.send("error", "error", failed{err.Error()})
		default:
			delete(s.last, "error")
			done = done && r.State.Ended()
			err = s.send("run", run.Queue+" "+run.ID, a.detail(ofRecord(r)))
		}
		if err != nil {
			return true, err
		}
	}
	if done {
		return true, s.send("end", "end", struct{}{})
	}
	return false, nil
}

// ofRecord returns what a record knows of a run.
func ofRecord(r *broker.Record) *taskrt.RunDetail {
	d := &taskrt.RunDetail{
		ID: r.ID, Task: r.Task, Queue: r.Queue, State: r.State, Attempt: r.Attempt, QueuedAt: r.QueuedAt, Due: r.Due, Started: r.StartedAt,
		Ended: r.EndedAt, Host: r.Host, Attempts: r.Attempts, Progress: r.Progress, Record: r,
	}
	if r.State != broker.StateSucceeded {
		d.Failure = r.Failure
	} else if len(r.Successors) == 0 {
		d.Result = r.Result
	}
	return d
}
