package api

import (
	"net/http"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/openapi"
)

// route is one operation of the API.
type route struct {
	Method, Path string // below Base
	id, summary  string
	action       access.Action // that the user needs for some task at least; empty: any user may
	perTask      bool          // it is documented once a task
	query        []param
	header       []param
	body         any   // zero value of the type of the JSON body; nil: none, or that of the task
	replies      []out // if it is done
	problems     []string
	stream       bool // the handler writes for as long as it likes
	handler      func(a *API, w http.ResponseWriter, req *http.Request) (any, error)
}

// param is a parameter of the query, or a header.
type param struct {
	name, doc string
	value     any // zero value of its type
	repeat    bool
	enum      []string
}

// out is a reply.
type out struct {
	status int
	doc    string
	value  any // zero value of its type; nil: no body
	media  string
}

func ok(value any, doc string) []out { return []out{{status: http.StatusOK, doc: doc, value: value}} }

var (
	waitParam   = param{name: "wait", doc: "wait so long for the end, at most 1m; the reply is what it is then", value: time.Duration(0)}
	queueParam  = param{name: "queue", doc: "the run's queue; missing: all are looked through", value: ""}
	queuesParam = param{name: "queue", doc: "only this queue", value: "", repeat: true}

	optionParams = []param{
		{name: "queue", doc: "another queue than the task's own", value: ""},
		{name: "priority", doc: "instead of the task's", value: "", enum: []string{"high", "medium", "low"}},
		{name: "delay", doc: "not due before this has passed, such as 10m", value: time.Duration(0)},
		{name: "at", doc: "not due before this time", value: time.Time{}},
		{name: "keep", doc: "how long the record is kept after the end, instead of the task's time", value: time.Duration(0)},
		{name: "header", doc: "a header of the run, as key=value", value: "", repeat: true},
	}
	filterParams = []param{
		{name: "state", doc: "those in this state", value: "", repeat: true, enum: states},
		queuesParam,
		{name: "task", doc: "those of this task, under any of its names", value: ""},
		{name: "tag", doc: "those of tasks with this tag", value: ""},
		{name: "kind", doc: "those whose last failure was of this kind", value: "", enum: failureKinds},
		{name: "error", doc: "those with this text in why they failed", value: ""},
		{name: "key", doc: "those whose id begins so, or with this parent, root, group or unique key", value: ""},
		{name: "id", doc: "those with this id", value: "", repeat: true},
		{name: "since", doc: "those that were queued, or ended, then or later: a time, or a duration ago", value: ""},
		{name: "before", doc: "those that were queued, or ended, before: a time, or a duration ago", value: ""},
		{name: "after", doc: "where the page before ended", value: ""},
		{name: "limit", doc: "so many at most; 100 if it is missing, 1000 at most", value: 0},
	}
	keyHeader = []param{{name: idempotency, doc: "becomes the id of the run: a repeat replies with the run of the first request, for a day after its end at least", value: ""}}
)

var queueProblems = []string{"invalid-request", "invalid-parameters", "unknown-task", "duplicate", "too-large", "unsupported-type", "refused", "key-reused", "queue-full", "outcome-unknown"}

// routes are all operations. Each of them may also reply with the problems of any: see common.
var routes = []route{
	{Method: "GET", Path: "/{$}", id: "index", summary: "List the operations", replies: ok(indexView{}, "the operations"), handler: (*API).index},

	{Method: "GET", Path: "/tasks", id: "listTasks", summary: "List the tasks of the program", action: access.Read, replies: ok(tasksView{}, "the tasks"), handler: (*API).listTasks},
	{Method: "GET", Path: "/tasks/{task}", id: "getTask", summary: "Show a task", action: access.Read, replies: ok(taskView{}, "the task"), problems: []string{"unknown-task"}, handler: (*API).getTask},
	{
		Method: "POST", Path: "/tasks/{task}/runs", id: "queue{Task}", summary: "Queue a run of {task}", action: access.Queue, perTask: true, query: optionParams, header: keyHeader, body: openapi.Params{},
		replies:  []out{{status: 201, doc: "the run that was queued", value: queued{}}, {status: 200, doc: "the run that an earlier request with this key queued", value: queued{}}},
		problems: queueProblems, handler: (*API).queueRun,
	},
	{
		Method: "POST", Path: "/tasks/{task}/runs:batch", id: "queue{Task}Batch", summary: "Queue a run of {task} for each of some parameters, all of them or none", action: access.Queue, perTask: true, query: optionParams, body: []openapi.Params{},
		replies: []out{{status: 201, doc: "the runs that were queued", value: queuedBatch{}}}, problems: queueProblems, handler: (*API).queueBatch,
	},
	{
		Method: "GET", Path: "/tasks/{task}/runs/{id...}", id: "get{Task}Run", summary: "Show a run of {task}, or wait for its end", action: access.Read, perTask: true, query: []param{queueParam, waitParam},
		replies: ok(taskRun{}, "the run"), problems: []string{"unknown-task", "no-run", "ambiguous", "refused"}, handler: (*API).getRun,
	},
	{Method: "POST", Path: "/tasks/{task}/disable", id: "disableTask", summary: "Stop the delivery of a task's runs", action: access.Disable, query: []param{queuesParam}, replies: ok(disabledView{}, "it is disabled"), problems: []string{"unknown-task"}, handler: (*API).disableTask},
	{Method: "POST", Path: "/tasks/{task}/enable", id: "enableTask", summary: "End what disable began", action: access.Disable, query: []param{queuesParam}, replies: ok(disabledView{}, "it is enabled"), problems: []string{"unknown-task"}, handler: (*API).enableTask},

	{Method: "GET", Path: "/runs", id: "listRuns", summary: "List runs", action: access.Read, query: filterParams, replies: ok(runsView{}, "a page of runs"), handler: (*API).listRuns},
	{
		Method: "GET", Path: "/runs/{id...}", id: "getRun", summary: "Show a run, or wait for its end", action: access.Read, query: []param{queueParam, waitParam},
		replies: ok(runDetail{}, "the run"), problems: []string{"no-run", "ambiguous", "refused"}, handler: (*API).getRun,
	},
	{
		Method: "DELETE", Path: "/runs/{id...}", id: "cancelRun", summary: "Cancel a run", action: access.Cancel, query: []param{queueParam},
		replies:  []out{{status: 200, doc: "it waited, and has ended", value: cancelled{}}, {status: 202, doc: "it runs, and its consumer was asked to end it", value: cancelled{}}},
		problems: []string{"no-run", "ambiguous", "outcome-unknown"}, handler: (*API).cancelRun,
	},

	{Method: "GET", Path: "/dead", id: "listDead", summary: "List dead letters, the newest first", action: access.Read, query: filterParams[1:], replies: ok(runsView{}, "a page of dead letters"), handler: (*API).listDead},
	{Method: "POST", Path: "/dead/requeue", id: "requeueDead", summary: "Requeue the dead letters that match", action: access.Retry, query: []param{waitParam}, body: change{}, replies: changeReplies, problems: []string{"refused"}, handler: (*API).requeueDead},
	{Method: "POST", Path: "/dead/delete", id: "deleteDead", summary: "Delete the dead letters that match", action: access.Delete, query: []param{waitParam}, body: change{}, replies: changeReplies, problems: []string{"refused"}, handler: (*API).deleteDead},

	{Method: "GET", Path: "/jobs", id: "listJobs", summary: "List the changes of all that match which this process does or did", action: access.Read, replies: ok(jobsView{}, "the jobs"), handler: (*API).listJobs},
	{Method: "POST", Path: "/jobs", id: "startJob", summary: "Cancel, make due, requeue or delete all that match", query: []param{waitParam}, body: change{}, replies: changeReplies, problems: []string{"refused"}, handler: (*API).startChange},
	{Method: "GET", Path: "/jobs/{id}", id: "getJob", summary: "Show a change of all, or wait for its end", action: access.Read, query: []param{waitParam}, replies: ok(jobView{}, "the job"), problems: []string{"no-job"}, handler: (*API).getJob},
	{Method: "DELETE", Path: "/jobs/{id}", id: "stopJob", summary: "Stop a change of all; what it changed stays so", action: access.Read, replies: ok(jobView{}, "the job"), problems: []string{"no-job"}, handler: (*API).stopJob},

	{Method: "GET", Path: "/queues", id: "listQueues", summary: "List queues", action: access.Read, query: []param{queuesParam}, replies: ok(queuesView{}, "the queues"), handler: (*API).listQueues},
	{Method: "GET", Path: "/queues/{queue}", id: "getQueue", summary: "Show a queue", action: access.Read, replies: ok(queueView{}, "the queue"), problems: []string{"not-found"}, handler: (*API).getQueue},
	{Method: "POST", Path: "/queues/{queue}/pause", id: "pauseQueue", summary: "Stop the delivery of a queue's runs", action: access.Pause, replies: ok(pausedView{}, "it is paused"), problems: []string{"not-found"}, handler: (*API).pauseQueue},
	{Method: "POST", Path: "/queues/{queue}/resume", id: "resumeQueue", summary: "End what pause began", action: access.Pause, replies: ok(pausedView{}, "it is not paused"), problems: []string{"not-found"}, handler: (*API).resumeQueue},

	{
		Method: "GET", Path: "/schedules", id: "listSchedules", summary: "List the schedules of tasks, and those made at run time", action: access.Read,
		query:   []param{queuesParam, {name: "task", doc: "those of this task", value: ""}, {name: "id", doc: "the one made at run time with this id", value: ""}},
		replies: ok(schedulesView{}, "the schedules"), handler: (*API).listSchedules,
	},
	{Method: "POST", Path: "/schedules", id: "addSchedule", summary: "Make a schedule with a new id", action: access.Schedule, body: schedule{}, replies: []out{{status: 201, doc: "it is made", value: scheduledView{}}}, problems: scheduleProblems, handler: (*API).addSchedule},
	{Method: "GET", Path: "/schedules/{id...}", id: "getSchedule", summary: "Show a schedule made at run time", action: access.Read, query: []param{scheduleQueue}, replies: ok(scheduleView{}, "the schedule"), problems: []string{"no-schedule"}, handler: (*API).getSchedule},
	{Method: "PUT", Path: "/schedules/{id...}", id: "putSchedule", summary: "Make a schedule, or change the one that has the id", action: access.Schedule, query: []param{scheduleQueue}, body: schedule{}, replies: []out{{status: 201, doc: "it is made, or changed", value: scheduledView{}}}, problems: scheduleProblems, handler: (*API).putSchedule},
	{Method: "DELETE", Path: "/schedules/{id...}", id: "deleteSchedule", summary: "End a schedule made at run time", action: access.Schedule, query: []param{scheduleQueue}, replies: []out{{status: 204, doc: "it has ended: no more runs of it are queued"}}, problems: []string{"no-schedule"}, handler: (*API).deleteSchedule},

	{Method: "GET", Path: "/instances", id: "listInstances", summary: "List the consumers and schedulers that are up", action: access.Read, query: []param{{name: "role", doc: "only these", value: "", enum: []string{"consumer", "scheduler"}}}, replies: ok(instancesView{}, "the instances"), problems: []string{"refused"}, handler: (*API).listInstances},
	{
		Method: "GET", Path: "/tallies", id: "listTallies", summary: "Count attempts and ends by minute, queue and task", action: access.Read,
		query: []param{
			queuesParam, {name: "task", doc: "only this task", value: ""},
			{name: "from", doc: "the first minute: a time, or a duration ago; missing: an hour before to", value: ""},
			{name: "to", doc: "the end, which is not included; missing: now", value: ""},
		},
		replies: ok(talliesView{}, "the counts"), problems: []string{"refused"}, handler: (*API).listTallies,
	},
	{
		Method: "GET", Path: "/events", id: "events", summary: "Stream the queues when they change, or runs until they have ended, as server-sent events", action: access.Read, stream: true,
		query:   []param{queuesParam, {name: "run", doc: "watch this run, at most 20", value: "", repeat: true}},
		replies: []out{{status: 200, doc: "events named queues, run, gone, error and end, each with JSON as its data", value: "", media: "text/event-stream"}},
		handler: (*API).events, problems: []string{"no-run", "refused"},
	},

	{Method: "GET", Path: "/asyncapi.json", id: "asyncapi", summary: "Describe the runs that travel through the broker as AsyncAPI 3.0", replies: ok(map[string]any{}, "the document"), handler: (*API).asyncapi},
	{Method: "GET", Path: "/openapi.json", id: "openapi", summary: "Describe this API as OpenAPI 3.1", replies: ok(map[string]any{}, "the document"), handler: (*API).openapi},
}

var (
	changeReplies = []out{
		{status: 200, doc: "the job has ended, or what a dry run counted", value: jobView{}},
		{status: 202, doc: "the job goes on", value: jobView{}},
	}
	scheduleProblems = []string{"invalid-request", "invalid-parameters", "unknown-task", "duplicate", "refused", "outcome-unknown"}
	scheduleQueue    = param{name: "queue", doc: "the schedule's queue; missing: default", value: ""}
)

// common are the problems of all operations.
var common = []string{"invalid-request", "no-user", "denied", "too-many-requests", "internal", "unavailable"}

// taskRun is a run of a task, in the documents.
type taskRun struct {
	runDetail
	Params openapi.Params `json:"params,omitempty"`
	Result openapi.Result `json:"result,omitempty"`
}

// indexView lists the operations.
type indexView struct {
	Name       string          `json:"name" doc:"of the program"`
	Operations []operationView `json:"operations"`
}

type operationView struct {
	Method  string `json:"method"`
	Path    string `json:"path" doc:"relative to this one"`
	Summary string `json:"summary"`
	Action  string `json:"action,omitempty" doc:"that the user needs"`
}

// index lists the operations.
func (a *API) index(_ http.ResponseWriter, req *http.Request) (any, error) {
	v := indexView{Name: a.Name}
	for _, r := range a.routes {
		v.Operations = append(v.Operations, operationView{r.Method, r.Path[1:], r.summary, string(r.action)})
	}
	return v, nil
}
