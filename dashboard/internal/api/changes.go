package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
)

// change is the body of a request that changes all that match.
type change struct {
	Do        string `json:"do,omitempty" doc:"cancel, run-now, requeue or delete"`
	Filter    filter `json:"filter" doc:"what it changes; empty: all there is"`
	All       bool   `json:"all,omitempty" doc:"has to be true if the filter is empty"`
	DryRun    bool   `json:"dry_run,omitempty" doc:"count what matches, and change nothing"`
	PerSecond int    `json:"per_second,omitempty" doc:"change no more on average; 0: no limit"`
}

// decodeBody reads a JSON body. It refuses fields that are unknown.
func decodeBody(req *http.Request, v any) error {
	b, media, err := body(req)
	if err != nil {
		return err
	}
	if media != mediaJSON {
		return &codedError{http.StatusUnsupportedMediaType, "unsupported-type", "the Content-Type has to be " + mediaJSON}
	}
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(v); err != nil {
		return invalidBody(err, v)
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return invalid("there is more behind the JSON of the body")
	}
	return nil
}

// invalidBody returns the error of a body, with its place as far as that is known.
func invalidBody(err error, v any) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return invalid("the body does not fit: /%s is a %s", strings.ReplaceAll(typ.Field, ".", "/"), typ.Value)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return invalid("the body has a field that is unknown: %.80s; known are %s", name, fieldsOf(reflect.TypeOf(v).Elem()))
	}
	return invalid("the body is no JSON that can be read")
}

// fieldsOf names the fields of a body, those of its own structs in brackets.
func fieldsOf(t reflect.Type) string {
	var names []string
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == t.PkgPath() {
			name += " (" + fieldsOf(f.Type) + ")"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// request returns what a body asks for.
func (c *change) request(a *API, req *http.Request) (bulk.Request, error) {
	r := bulk.Request{Kind: bulk.Kind(c.Do), PerSecond: c.PerSecond}
	access.EntryOf(req.Context()).Set(r.Kind.Action(), c.Filter.Task)
	access.EntryOf(req.Context()).Add("filter", c.Filter.String(), "dry_run", c.DryRun)
	f, err := c.Filter.of(a)
	if err != nil {
		return r, err
	}
	r.Filter = f
	isEmpty := c.Filter.String() == "{}"
	if isEmpty && !c.All && !c.DryRun {
		return r, invalid("the filter is empty, so all would be changed: say so by \"all\": true")
	}
	return r, nil
}

// String returns the filter as JSON.
func (f *filter) String() string {
	b, err := json.Marshal(f)
	if err != nil {
		return "?" // a time that has no form
	}
	return string(b)
}

// startChange begins a change of all that match.
func (a *API) startChange(w http.ResponseWriter, req *http.Request) (any, error) {
	var c change
	if err := decodeBody(req, &c); err != nil {
		return nil, err
	}
	return a.change(w, req, &c, "")
}

func (a *API) requeueDead(w http.ResponseWriter, req *http.Request) (any, error) {
	return a.changeDead(w, req, bulk.Requeue)
}

func (a *API) deleteDead(w http.ResponseWriter, req *http.Request) (any, error) {
	return a.changeDead(w, req, bulk.Delete)
}

// changeDead changes the dead letters that match.
func (a *API) changeDead(w http.ResponseWriter, req *http.Request, kind bulk.Kind) (any, error) {
	var c change
	if err := decodeBody(req, &c); err != nil {
		return nil, err
	}
	if c.Do != "" && c.Do != string(kind) {
		return nil, invalid("do is %.64q; leave it out here", c.Do)
	}
	if len(c.Filter.States) > 0 {
		return nil, invalid("dead letters have no state")
	}
	c.Do = string(kind)
	return a.change(w, req, &c, "../")
}

// change counts, or begins a job and waits for its end as long as the request does. up leads
// from the path of the request to that of the API.
func (a *API) change(w http.ResponseWriter, req *http.Request, c *change, up string) (any, error) {
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	r, err := c.request(a, req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	if c.DryRun {
		n, err := a.Jobs.Count(ctx, r)
		if err != nil {
			return nil, err
		}
		if access.UserOf(ctx).Restricted() { // the counts are those of all tasks
			n.Looked, n.Total = n.Changed, int64(n.Changed)
		}
		return jobView{
			Do: c.Do, State: "counted", Matched: &n.Changed, Complete: &n.Complete, Looked: n.Looked, Total: n.Total, Missing: n.Missing, Skipped: a.skippedOf(req, n.Skipped),
		}, nil
	}
	s, err := a.Jobs.Start(ctx, r)
	if err != nil {
		return nil, err
	}
	access.EntryOf(ctx).Add("job", s.ID)
	if s, err = a.awaitJob(w, req, s); err != nil {
		return nil, err
	}
	status := http.StatusOK
	if s.State == bulk.Running {
		status = http.StatusAccepted
	}
	return reply{status: status, header: map[string]string{"Location": up + "jobs/" + s.ID}, value: a.jobOf(req, s)}, nil
}

// awaitJob waits for the end of a job as long as the request does.
func (a *API) awaitJob(w http.ResponseWriter, req *http.Request, s bulk.Status) (bulk.Status, error) {
	wait, err := waitOf(req)
	if err != nil || wait == 0 {
		return s, err
	}
	access.Stream(w, wait+callTime) // the body was read
	ctx, cancel := context.WithTimeout(req.Context(), wait)
	defer cancel()
	return a.Jobs.Wait(ctx, s.ID)
}

func (a *API) jobOf(req *http.Request, s bulk.Status) jobView {
	if access.UserOf(req.Context()).Restricted() { // the counts are those of all tasks
		s.Looked = s.Changed + s.Stayed
		s.Total = int64(s.Looked)
	}
	v := jobView{
		ID: s.ID, User: s.User, Do: string(s.Kind), State: string(s.State), Started: utc(s.Started), Ended: utc(s.Ended), PerSecond: s.PerSecond,
		Changed: s.Changed, Stayed: s.Stayed, Looked: s.Looked, Total: s.Total, Missing: s.Missing, Skipped: a.skippedOf(req, s.Skipped),
	}
	for _, stay := range s.Stays {
		v.Stays = append(v.Stays, stayView{stay.ID, stay.Queue, stay.Why})
	}
	if s.Err != nil {
		v.Error = s.Err.Error()
	}
	return v
}

type jobsView struct {
	Jobs []jobView `json:"jobs"`
}

// listJobs lists the changes of all of this process.
func (a *API) listJobs(_ http.ResponseWriter, req *http.Request) (any, error) {
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	v := jobsView{[]jobView{}}
	for _, s := range a.Jobs.List(req.Context()) {
		v.Jobs = append(v.Jobs, a.jobOf(req, s))
	}
	return v, nil
}

// getJob shows a change of all, once it has ended if the request waits for that.
func (a *API) getJob(w http.ResponseWriter, req *http.Request) (any, error) {
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	s, err := a.Jobs.Get(req.Context(), req.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if s, err = a.awaitJob(w, req, s); err != nil {
		return nil, err
	}
	return a.jobOf(req, s), nil
}

// stopJob stops a change of all.
func (a *API) stopJob(_ http.ResponseWriter, req *http.Request) (any, error) {
	ctx := req.Context()
	s, err := a.Jobs.Get(ctx, req.PathValue("id"))
	if err != nil {
		return nil, err
	}
	access.EntryOf(ctx).Set(s.Kind.Action(), s.Filter.Task)
	access.EntryOf(ctx).Add("stop", s.ID)
	if s, err = a.Jobs.Stop(ctx, s.ID); err != nil {
		return nil, err
	}
	return a.jobOf(req, s), nil
}

// schedule is the body of a request that makes a schedule.
type schedule struct {
	Task   string          `json:"task"`
	Rule   string          `json:"rule" doc:"a cron expression such as 0 9 * * mon, or @every and a duration"`
	Zone   string          `json:"zone,omitempty" doc:"time zone of the cron expression, such as Europe/Rome; missing: UTC"`
	Params json.RawMessage `json:"params,omitempty" doc:"parameters of each run, as for a run of the task"`
	runOptions
}

// scheduledView is a schedule that was made.
type scheduledView struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
	Task  string `json:"task"`
	Next  string `json:"next" doc:"its first tick from now on"`
}

// addSchedule makes a schedule with a new id.
func (a *API) addSchedule(_ http.ResponseWriter, req *http.Request) (any, error) {
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	return a.schedule(req, "", "")
}

// putSchedule makes a schedule, or changes the one that has its id.
func (a *API) putSchedule(_ http.ResponseWriter, req *http.Request) (any, error) {
	queue, id, err := scheduleName(req)
	if err != nil {
		return nil, err
	}
	return a.schedule(req, queue, id)
}

// schedule makes the schedule of a body. queue is the one that the query names, for one with
// an id.
func (a *API) schedule(req *http.Request, queue, id string) (any, error) {
	var s schedule
	if err := decodeBody(req, &s); err != nil {
		return nil, err
	}
	ctx := req.Context()
	entry := access.EntryOf(ctx)
	t, ok := a.byName[s.Task]
	if !ok {
		return nil, &codedError{http.StatusNotFound, "unknown-task", "the program has no such task; GET tasks lists them"}
	}
	entry.Set(access.Schedule, t.Name(), id)
	if err := access.Check(ctx, access.Schedule, t.Name()); err != nil {
		return nil, err
	}
	switch {
	case id != "" && s.Queue != "" && s.Queue != queue:
		return nil, invalid("the queue of the body is not that of the address, which is default if none is named")
	case id != "":
		s.Queue = queue
	case s.At != "":
		return nil, invalid("at fits no schedule: the rule says when; delay has runs due a while after each tick")
	}
	if err := a.checkOwner(ctx, queue, id); err != nil {
		return nil, err
	}
	options, err := s.of(id)
	if err != nil {
		return nil, err
	}
	if len(s.Params) == 0 {
		s.Params = json.RawMessage("{}")
	}
	payload, err := a.encode(t, s.Params, "/params")
	if err != nil {
		return nil, err
	}
	made, err := a.Client.ScheduleTask(ctx, t, payload, s.Rule, s.Zone, options...)
	if err != nil {
		return nil, scheduleError(err)
	}
	entry.Set(access.Schedule, t.Name(), made.ID)
	v := scheduledView{ID: made.ID, Queue: made.Queue, Task: t.Name()}
	if next, err := made.Next.MarshalText(); err == nil {
		v.Next = string(next)
	}
	return reply{status: http.StatusCreated, value: v}, nil
}

// checkOwner refuses to replace the schedule of another task, which the user may not see.
func (a *API) checkOwner(ctx context.Context, queue, id string) error {
	if id == "" || !access.UserOf(ctx).Restricted() {
		return nil
	}
	list, err := a.Inspector.Schedules(ctx, queue)
	if err != nil {
		return err
	}
	for _, s := range list.Skipped {
		return s.Err // whose it is cannot be known
	}
	for _, s := range list.Schedules {
		if s.ID == id && !access.UserOf(ctx).Allows(access.Schedule, s.Task) {
			return &codedError{http.StatusForbidden, "denied", "the queue has a schedule with this id that you may not change"}
		}
	}
	return nil
}

// scheduleError returns the error of a call that makes a schedule. All but the rule was
// checked before, so an error of an unknown kind is one of the rule.
func scheduleError(err error) error {
	if d := problemOf(err); d.status != 0 || errors.Is(err, broker.ErrUnavailable) {
		return err
	}
	return refused("%v", err)
}
