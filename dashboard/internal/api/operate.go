package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

type queuesView struct {
	Queues  []queueView   `json:"queues"`
	Skipped []skippedView `json:"skipped,omitempty"`
}

// listQueues lists queues.
func (a *API) listQueues(_ http.ResponseWriter, req *http.Request) (any, error) {
	q := queryOf(req, "queue")
	for _, queue := range q.values["queue"] {
		q.failIf(checkQueue(queue))
	}
	if q.err != nil {
		return nil, q.err
	}
	list, err := a.Inspector.Queues(req.Context(), q.values["queue"]...)
	if err != nil {
		return nil, err
	}
	v := queuesView{Queues: []queueView{}, Skipped: a.skippedOf(req, list.Skipped)}
	sees := a.seesQueue(req)
	for _, s := range list.Queues {
		if sees(s.Queue) {
			v.Queues = append(v.Queues, a.restrict(req, queueOf(s)))
		}
	}
	return v, nil
}

// seesQueue returns a function that reports whether a request's user may see a queue. One
// restricted to tasks sees the queues of these.
func (a *API) seesQueue(req *http.Request) func(queue string) bool {
	u := access.UserOf(req.Context())
	if !u.Restricted() {
		return func(string) bool { return u.Has(access.Read) }
	}
	var queues []string
	for _, t := range a.Tasks {
		if u.Allows(access.Read, t.Name()) {
			queues = append(queues, t.Spec().Queue)
		}
	}
	return func(queue string) bool { return slices.Contains(queues, queue) }
}

// restrict leaves out of a queue what is of tasks that the user may not see.
func (a *API) restrict(req *http.Request, v queueView) queueView {
	if access.UserOf(req.Context()).Restricted() {
		v.Disabled = slices.DeleteFunc(v.Disabled, func(task string) bool { return !mayRead(req)(task) })
		v.Limits = nil
	}
	return v
}

// queueName returns the queue of a request's path.
func queueName(req *http.Request, known ...string) (string, error) {
	q := queryOf(req, known...)
	name := req.PathValue("queue")
	q.failIf(checkQueue(name))
	return name, q.err
}

// getQueue shows a queue.
func (a *API) getQueue(_ http.ResponseWriter, req *http.Request) (any, error) {
	name, err := queueName(req)
	if err != nil {
		return nil, err
	}
	if !a.seesQueue(req)(name) {
		return nil, access.Check(req.Context(), access.Read, "")
	}
	if err := a.checkNamed(req.Context(), name); err != nil {
		return nil, err
	}
	list, err := a.Inspector.Queues(req.Context(), name)
	if err != nil {
		return nil, err
	}
	for _, s := range list.Queues {
		return a.restrict(req, queueOf(s)), nil
	}
	return nil, &codedError{http.StatusNotFound, "not-found", "there is no such queue"}
}

func (a *API) pauseQueue(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.pause(req, true)
}

func (a *API) resumeQueue(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.pause(req, false)
}

type pausedView struct {
	Queue  string `json:"queue"`
	Paused bool   `json:"paused"`
}

func (a *API) pause(req *http.Request, paused bool) (any, error) {
	name, err := queueName(req)
	if err != nil {
		return nil, err
	}
	ctx := req.Context()
	entry := access.EntryOf(ctx)
	entry.Set(access.Pause, "", name)
	entry.Add("paused", paused)
	if err := access.Check(ctx, access.Pause, ""); err != nil {
		return nil, err
	}
	if err := a.checkNamed(ctx, name); err != nil {
		return nil, err
	}
	if paused {
		err = a.Inspector.Pause(ctx, name)
	} else {
		err = a.Inspector.Resume(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	return pausedView{name, paused}, nil
}

// checkNamed returns an error if no queue has the name: a pause of a misspelt one would stop
// nothing, and one that is watched would always be empty. If the names cannot be read, any
// name will do.
func (a *API) checkNamed(ctx context.Context, name string) error {
	known, err := a.Inspector.QueueNames(ctx)
	if err != nil || slices.Contains(known, name) {
		return nil
	}
	return &codedError{http.StatusNotFound, "not-found", fmt.Sprintf("no queue is named %.64q; GET queues lists them", name)}
}

type tasksView struct {
	Tasks []taskView `json:"tasks"`
}

// listTasks lists the tasks of the program.
func (a *API) listTasks(_ http.ResponseWriter, req *http.Request) (any, error) {
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	v := tasksView{[]taskView{}}
	for _, t := range a.Tasks {
		if mayRead(req)(t.Name()) {
			v.Tasks = append(v.Tasks, taskOf(t))
		}
	}
	return v, nil
}

// getTask shows a task.
func (a *API) getTask(_ http.ResponseWriter, req *http.Request) (any, error) {
	t, err := a.task(req, access.Read)
	if err != nil {
		return nil, err
	}
	if q := queryOf(req); q.err != nil {
		return nil, q.err
	}
	return taskOf(t), nil
}

func (a *API) disableTask(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.disable(req, true)
}

func (a *API) enableTask(_ http.ResponseWriter, req *http.Request) (any, error) {
	return a.disable(req, false)
}

type disabledView struct {
	Task     string   `json:"task"`
	Queues   []string `json:"queues"`
	Disabled bool     `json:"disabled"`
}

func (a *API) disable(req *http.Request, disabled bool) (any, error) {
	t, err := a.task(req, access.Disable)
	if err != nil {
		return nil, err
	}
	q := queryOf(req, "queue")
	queues := q.values["queue"]
	for _, queue := range queues {
		q.failIf(checkQueue(queue))
	}
	if q.err != nil {
		return nil, q.err
	}
	if len(queues) == 0 {
		queues = []string{t.Spec().Queue}
	}
	ctx := req.Context()
	entry := access.EntryOf(ctx)
	entry.Set(access.Disable, t.Name(), queues...)
	entry.Add("disabled", disabled)
	if disabled {
		err = a.Inspector.Disable(ctx, t.Name(), queues...)
	} else {
		err = a.Inspector.Enable(ctx, t.Name(), queues...)
	}
	if err != nil {
		return nil, err
	}
	return disabledView{t.Name(), queues, disabled}, nil
}

type instancesView struct {
	Instances []instanceView `json:"instances"`
}

// listInstances lists the consumers and schedulers that are up.
func (a *API) listInstances(_ http.ResponseWriter, req *http.Request) (any, error) {
	q := queryOf(req, "role")
	role := q.text("role")
	if role != "" && role != string(broker.RoleConsumer) && role != string(broker.RoleScheduler) {
		q.fail(invalid("role is neither consumer nor scheduler"))
	}
	if q.err == nil {
		q.err = access.Check(req.Context(), access.Read, "")
	}
	if q.err != nil {
		return nil, q.err
	}
	instances, err := a.Inspector.Instances(req.Context())
	if err != nil {
		return nil, err
	}
	v := instancesView{[]instanceView{}}
	for _, i := range instances {
		if role == "" || role == string(i.Role) {
			v.Instances = append(v.Instances, instanceOf(i))
		}
	}
	return v, nil
}

type talliesView struct {
	Tallies []tallyView `json:"tallies"`
}

// maxTallies bounds how long a time one request reads.
const maxTallies = 24 * time.Hour

// listTallies lists counts of attempts and ends by minute, queue and task.
func (a *API) listTallies(_ http.ResponseWriter, req *http.Request) (any, error) {
	q := queryOf(req, "queue", "task", "from", "to")
	task, from, to := q.text("task"), q.instant("from"), q.instant("to")
	for _, queue := range q.values["queue"] {
		q.failIf(checkQueue(queue))
	}
	if to.IsZero() {
		to = time.Now()
	}
	if from.IsZero() {
		from = to.Add(-time.Hour)
	}
	if d := to.Sub(from); d <= 0 || d > maxTallies {
		q.fail(invalid("from and to are %v apart; it has to be more than nothing and at most %v", d, maxTallies))
	}
	if q.err != nil {
		return nil, q.err
	}
	tallies, err := a.Inspector.Tallies(req.Context(), from, to, q.values["queue"]...)
	if err != nil {
		return nil, err
	}
	v := talliesView{[]tallyView{}}
	for i := range tallies {
		if t := &tallies[i]; (task == "" || t.Task == task) && mayRead(req)(t.Task) {
			v.Tallies = append(v.Tallies, tallyOf(t))
		}
	}
	return v, nil
}

type schedulesView struct {
	Schedules []scheduleView `json:"schedules"`
	Skipped   []skippedView  `json:"skipped,omitempty"`
}

// listSchedules lists the schedules of the tasks, and those made at run time.
func (a *API) listSchedules(_ http.ResponseWriter, req *http.Request) (any, error) {
	q := queryOf(req, "queue", "task", "id")
	task, id := q.text("task"), q.text("id")
	for _, queue := range q.values["queue"] {
		q.failIf(checkQueue(queue))
	}
	if q.err != nil {
		return nil, q.err
	}
	list, err := a.Inspector.Schedules(req.Context(), q.values["queue"]...)
	if err != nil {
		return nil, err
	}
	v := schedulesView{Schedules: []scheduleView{}, Skipped: a.skippedOf(req, list.Skipped)}
	for _, s := range list.Schedules {
		if (task == "" || s.Task == task) && (id == "" || s.ID == id) && mayRead(req)(s.Task) {
			v.Schedules = append(v.Schedules, scheduleOf(s))
		}
	}
	return v, nil
}

var errNoSchedule = &codedError{http.StatusNotFound, "no-schedule", "the queue has no schedule made at run time with this id"}

// scheduleAt returns the schedule of a request's path, which was made at run time.
func (a *API) scheduleAt(req *http.Request) (*taskrt.ScheduleStatus, error) {
	queue, id, err := scheduleName(req)
	if err != nil {
		return nil, err
	}
	list, err := a.Inspector.Schedules(req.Context(), queue)
	if err != nil {
		return nil, err
	}
	for _, s := range list.Schedules {
		if s.ID == id && s.Queue == queue {
			return &s, nil
		}
	}
	for _, s := range list.Skipped {
		return nil, s.Err
	}
	return nil, errNoSchedule
}

// scheduleName returns the queue and the id of a schedule.
func scheduleName(req *http.Request) (queue, id string, err error) {
	q := queryOf(req, "queue")
	if queue = q.text("queue"); queue == "" {
		queue = taskrt.DefaultQueue
	}
	q.failIf(checkQueue(queue))
	id = req.PathValue("id")
	if len(id) > broker.MaxScheduleID || (&broker.TaskRun{ID: id, Task: "-", Queue: "-"}).Validate() != nil {
		q.fail(invalid("no schedule can have this id"))
	}
	return queue, id, q.err
}

// getSchedule shows a schedule that was made at run time.
func (a *API) getSchedule(_ http.ResponseWriter, req *http.Request) (any, error) {
	s, err := a.scheduleAt(req)
	if err != nil {
		return nil, err
	}
	if !mayRead(req)(s.Task) {
		return nil, errNoSchedule
	}
	return scheduleOf(*s), nil
}

// deleteSchedule ends a schedule that was made at run time.
func (a *API) deleteSchedule(_ http.ResponseWriter, req *http.Request) (any, error) {
	ctx := req.Context()
	access.EntryOf(ctx).Set(access.Schedule, "", req.PathValue("id"))
	s, err := a.scheduleAt(req)
	if err != nil {
		return nil, err
	}
	access.EntryOf(ctx).Set(access.Schedule, s.Task, s.ID)
	if !mayRead(req)(s.Task) && !access.UserOf(ctx).Allows(access.Schedule, s.Task) {
		return nil, errNoSchedule
	}
	if err := access.Check(ctx, access.Schedule, s.Task); err != nil {
		return nil, err
	}
	err = taskrt.Unschedule(taskrt.WithClient(ctx, a.Client), s.Queue, s.ID)
	if errors.Is(err, taskrt.ErrNoSchedule) {
		return nil, errNoSchedule
	}
	if err != nil {
		return nil, err
	}
	return reply{status: http.StatusNoContent}, nil
}
