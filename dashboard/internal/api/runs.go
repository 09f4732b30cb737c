package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/jsonform"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// shown is how values are written for those who read them.
func shown(t taskrt.Task) jsonform.Output {
	return jsonform.Output{Secrets: t.Spec().Secrets, Lossy: true}
}

// escapeID returns an id as a part of a path.
func escapeID(id string) string { return url.PathEscape(id) }

// pageNames are the parameters of a page, beside those of a filter.
var pageNames = append([]string{"after", "limit"}, filterNames...)

const (
	defaultLimit = 100
	maxLimit     = broker.MaxFound
)

func pageOf(q *query) taskrt.PageOptions {
	return taskrt.PageOptions{After: q.text("after"), Max: q.number("limit", 1, maxLimit, defaultLimit)}
}

// search reads the filter and page of a list.
func (a *API) search(req *http.Request) (taskrt.RunFilter, taskrt.PageOptions, error) {
	q := queryOf(req, pageNames...)
	f, p := a.filterOf(q), pageOf(q)
	if q.err == nil && f.Task != "" {
		q.err = access.Check(req.Context(), access.Read, f.Task)
	}
	return f, p, q.err
}

// listRuns lists runs.
func (a *API) listRuns(_ http.ResponseWriter, req *http.Request) (any, error) {
	f, p, err := a.search(req)
	if err != nil {
		return nil, err
	}
	found, err := a.Inspector.Runs(req.Context(), f, p)
	if err != nil {
		return nil, err
	}
	hosts := a.hosts(req.Context(), found.Runs)
	v := &runsView{Runs: []runView{}, page: a.pageView(req, found.Looked, found.Total, found.After, found.Skipped)}
	for _, i := range found.Runs {
		if !mayRead(req)(i.Run.Task) {
			continue
		}
		run := viewOf(i)
		if host := hosts[run.Session]; host != "" && i.State == broker.StateRunning {
			run.Host = host
		}
		v.Runs = append(v.Runs, run)
	}
	v.hideOthers(req)
	return v, nil
}

// hideOthers hides from a user of some tasks how many runs other tasks have.
func (v *runsView) hideOthers(req *http.Request) {
	if access.UserOf(req.Context()).Restricted() {
		v.Looked, v.Total = len(v.Runs), nil
	}
}

// hosts returns where sessions are, if any of the runs runs.
func (a *API) hosts(ctx context.Context, runs []*broker.RunInfo) map[string]string {
	for _, i := range runs {
		if i.State == broker.StateRunning {
			hosts, _ := a.Inspector.Hosts(ctx) // else they stay unknown
			return hosts
		}
	}
	return nil
}

// pageView returns what is said of a list.
func (a *API) pageView(req *http.Request, looked int, total int64, after string, skipped []taskrt.Skipped) page {
	p := page{Looked: looked, After: after, Skipped: a.skippedOf(req, skipped)}
	if total >= 0 {
		p.Total = &total
	}
	return p
}

// listDead lists dead letters.
func (a *API) listDead(_ http.ResponseWriter, req *http.Request) (any, error) {
	f, p, err := a.search(req)
	if err != nil {
		return nil, err
	}
	if len(f.States) > 0 {
		return nil, invalid("dead letters have no state")
	}
	found, err := a.Inspector.Dead(req.Context(), f, p)
	if err != nil {
		return nil, err
	}
	v := &runsView{Runs: []runView{}, page: a.pageView(req, found.Looked, found.Total, found.After, found.Skipped)}
	for _, l := range found.Letters {
		if run := letterOf(l); mayRead(req)(run.Task) {
			v.Runs = append(v.Runs, run)
		}
	}
	v.hideOthers(req)
	return v, nil
}

// oneRun returns the id of a request's path, and the queues to look into.
func oneRun(req *http.Request, names ...string) (id string, queues []string, err error) {
	q := queryOf(req, append(names, "queue")...)
	if queue := q.text("queue"); queue != "" {
		queues = []string{queue}
		q.failIf(checkQueue(queue))
	}
	id = req.PathValue("id")
	if (&broker.TaskRun{ID: id, Task: "-", Queue: "-"}).Validate() != nil {
		q.fail(invalid("no run can have this id"))
	}
	return id, queues, q.err
}

// find returns a run that the user may see. Of another it says that there is none.
func (a *API) find(req *http.Request, id string, queues []string) (*taskrt.RunDetail, error) {
	d, err := a.Inspector.Run(req.Context(), id, queues...)
	u := access.UserOf(req.Context())
	if ambiguous := (*taskrt.AmbiguousError)(nil); errors.As(err, &ambiguous) && u.Restricted() {
		return nil, &codedError{http.StatusConflict, "ambiguous", "several queues have a run of this id; name its queue"}
	}
	if err != nil {
		return nil, err
	}
	if !u.Allows(access.Read, d.Task) && !(d.Task != "" && u.Allows(access.Cancel, d.Task)) {
		return nil, &codedError{http.StatusNotFound, "no-run", "no run of this id is known, or the user may not see it"}
	}
	return d, nil
}

// getRun shows a run, once it has ended if the request waits for that.
func (a *API) getRun(w http.ResponseWriter, req *http.Request) (any, error) {
	id, queues, err := oneRun(req)
	if err != nil {
		return nil, err
	}
	wait, err := waitOf(req)
	if err != nil {
		return nil, err
	}
	d, err := a.find(req, id, queues)
	if err != nil {
		return nil, err
	}
	if err := access.Check(req.Context(), access.Read, d.Task); err != nil {
		return nil, err
	}
	if name := req.PathValue("task"); name != "" {
		if t, err := a.task(req, access.Read); err != nil || t.Name() != a.byName[d.Task].Name() {
			return nil, cmp.Or(err, error(&codedError{http.StatusNotFound, "no-run", "the run is one of another task"}))
		}
	}
	if wait > 0 && !d.State.Ended() {
		access.Stream(w, wait+callTime)
		waiting, cancel := context.WithTimeout(req.Context(), wait)
		defer cancel()
		if d, err = a.await(waiting, req, d); err != nil {
			return nil, err
		}
	}
	return a.detail(d), nil
}

// await returns a run once it has ended or ctx ends.
func (a *API) await(ctx context.Context, req *http.Request, d *taskrt.RunDetail) (*taskrt.RunDetail, error) {
	_, err := a.Client.WaitTask(ctx, &broker.TaskRun{ID: d.ID, Queue: d.Queue})
	switch {
	case errors.Is(err, taskrt.ErrNoRecord) && d.Record == nil:
		return nil, refused("no record of run %.64q is kept, so its end cannot be waited for: queue it with keep, such as keep=1h", d.ID)
	case err != nil && ctx.Err() == nil:
		return nil, err
	}
	if d, err = a.find(req, d.ID, []string{d.Queue}); err != nil { // another run may have the id by now
		return nil, err
	}
	return d, access.Check(req.Context(), access.Read, d.Task)
}

// cancelled is a run that was cancelled.
type cancelled struct {
	ID      string `json:"id"`
	Queue   string `json:"queue"`
	Outcome string `json:"outcome" doc:"ended: it waited; asked: its consumer was asked to end it"`
}

// cancelRun cancels a run.
func (a *API) cancelRun(_ http.ResponseWriter, req *http.Request) (any, error) {
	id, queues, err := oneRun(req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	access.EntryOf(ctx).Set(access.Cancel, "", id)
	d, err := a.find(req, id, queues)
	if err != nil {
		return nil, err
	}
	access.EntryOf(ctx).Set(access.Cancel, d.Task, id)
	if err := access.Check(ctx, access.Cancel, d.Task); err != nil {
		return nil, err
	}
	done, err := a.Inspector.Cancel(ctx, id, d.Queue)
	if err != nil {
		return nil, &runFailure{&broker.TaskRun{ID: id, Queue: d.Queue}, err}
	}
	v := cancelled{ID: id, Queue: done.Queue, Outcome: "ended"}
	if done.Running {
		v.Outcome = "asked"
		return reply{status: http.StatusAccepted, value: v}, nil
	}
	return v, nil
}
