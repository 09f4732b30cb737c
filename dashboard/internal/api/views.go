package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// The names are those that the command line prints with --json.

// runView is a run in a list.
type runView struct {
	ID         string       `json:"id"`
	Task       string       `json:"task"`
	Queue      string       `json:"queue"`
	State      string       `json:"state" doc:"running, queued, delayed, failed, cancelled or succeeded"`
	Attempts   int          `json:"attempts" doc:"that have ended"`
	Deliveries int          `json:"deliveries,omitempty"`
	Priority   string       `json:"priority,omitempty"`
	QueuedAt   time.Time    `json:"queued_at,omitzero"`
	Due        time.Time    `json:"due,omitzero" doc:"of a delayed one"`
	StartedAt  time.Time    `json:"started_at,omitzero" doc:"of the attempt that goes on, or was the last"`
	EndedAt    time.Time    `json:"ended_at,omitzero"`
	Took       string       `json:"took,omitempty" doc:"the last attempt that has ended, such as 1.5s"`
	Host       string       `json:"host,omitempty"`
	Session    string       `json:"session,omitempty"`
	Failure    *failureView `json:"failure,omitempty" doc:"the last one"`
	Unreadable bool         `json:"unreadable,omitempty"`
}

type failureView struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Stack   string `json:"stack,omitempty"`
}

// runDetail is all that is known of a run.
type runDetail struct {
	runView
	History     []attemptView     `json:"history,omitempty" doc:"attempts that have ended, the oldest first"`
	Progress    *progressView     `json:"progress,omitempty"`
	Keep        string            `json:"keep,omitempty" doc:"how long its record is kept after its end"`
	Parent      string            `json:"parent,omitempty"`
	Root        string            `json:"root,omitempty"`
	Group       string            `json:"group,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Params      json.RawMessage   `json:"params,omitempty" doc:"secrets are ***"`
	ParamsError string            `json:"params_error,omitempty" doc:"why they cannot be shown"`
	Result      json.RawMessage   `json:"result,omitempty"`
	ResultError string            `json:"result_error,omitempty"`
	Successors  []refView         `json:"successors,omitempty" doc:"of a call that it returned: the last has the result"`
}

type attemptView struct {
	Started time.Time `json:"started_at,omitzero"`
	Took    string    `json:"took,omitempty"`
	Host    string    `json:"host,omitempty"`
	Ended   string    `json:"ended" doc:"succeeded, or the kind of failure"`
	Message string    `json:"message,omitempty"`
}

type progressView struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty" doc:"0: unknown"`
	Note  string `json:"note,omitempty"`
}

type refView struct {
	ID    string `json:"id"`
	Queue string `json:"queue"`
}

// page is what is said of a list beside its rows.
type page struct {
	Looked  int           `json:"looked" doc:"so many were looked at for this page; to a user of some tasks: those that are shown"`
	Total   *int64        `json:"total" doc:"about so many there are to look at; null: unknown"`
	After   string        `json:"after,omitempty" doc:"where the next page begins; missing: there is none"`
	Skipped []skippedView `json:"skipped,omitempty" doc:"queues that could not be read"`
}

type skippedView struct {
	Queue string `json:"queue,omitempty"`
	Why   string `json:"why"`
}

type runsView struct {
	Runs []runView `json:"runs"`
	page
}

// skippedOf returns what could not be read. To a user of some tasks it names their queues alone.
func (a *API) skippedOf(req *http.Request, skipped []taskrt.Skipped) (all []skippedView) {
	sees, others := a.seesQueue(req), false
	for _, s := range skipped {
		if !access.UserOf(req.Context()).Restricted() || sees(s.Queue) {
			all = append(all, skippedView{s.Queue, s.Err.Error()})
		} else {
			others = true
		}
	}
	if others {
		all = append(all, skippedView{Why: "not all queues could be read"})
	}
	return all
}

func failureOf(f *broker.Failure) *failureView {
	if f == nil {
		return nil
	}
	return &failureView{string(f.Kind), f.Message, f.Stack}
}

// durationOf returns a duration as text, empty for none.
func durationOf(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// utc returns a time as JSON shows it. The zero time stays zero.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// viewOf returns a run of a list.
func viewOf(i *broker.RunInfo) runView {
	v := runView{
		ID: i.Run.ID, Task: i.Run.Task, Queue: i.Run.Queue, State: string(i.State), Attempts: i.Run.Attempt, QueuedAt: utc(i.Run.QueuedAt),
		StartedAt: utc(i.Started), EndedAt: utc(i.Ended), Failure: failureOf(i.Failure),
	}
	v.addLast(i.Run.History.OrZero().Attempts)
	if i.State.Ended() {
		if i.State == broker.StateSucceeded {
			v.Failure = nil // of an attempt before
		}
		return v
	}
	v.Deliveries, v.Priority, v.Session = i.Run.Deliveries, i.Run.Priority.String(), i.Session
	if i.State == broker.StateDelayed {
		v.Due = utc(i.Due)
	}
	return v
}

// addLast sets what is known of the last attempt that has ended.
func (v *runView) addLast(attempts []broker.Attempt) {
	if len(attempts) == 0 || v.State == string(broker.StateRunning) {
		return
	}
	last := attempts[len(attempts)-1]
	if v.StartedAt.IsZero() {
		v.StartedAt = utc(last.Started)
	}
	v.Took, v.Host = durationOf(last.Took), last.Host
}

// letterOf returns a dead letter as a run of a list.
func letterOf(l taskrt.DeadLetter) runView {
	v := runView{ID: l.ID, Queue: l.Queue, State: string(broker.StateFailed), EndedAt: utc(l.At), Failure: failureOf(&l.Failure), Unreadable: l.Run == nil}
	if l.Run != nil {
		v.Task, v.Attempts, v.Deliveries, v.Priority, v.QueuedAt = l.Run.Task, l.Run.Attempt, l.Run.Deliveries, l.Run.Priority.String(), utc(l.Run.QueuedAt)
		v.addLast(l.Run.History.OrZero().Attempts)
	}
	return v
}

// detail returns all that is known of a run.
func (a *API) detail(d *taskrt.RunDetail) *runDetail {
	v := &runDetail{runView: runView{
		ID: d.ID, Task: d.Task, Queue: d.Queue, State: string(d.State), Attempts: d.Attempt, QueuedAt: utc(d.QueuedAt),
		Due: utc(d.Due), StartedAt: utc(d.Started), EndedAt: utc(d.Ended), Host: d.Host, Session: d.Session,
		Failure: failureOf(d.Failure), Unreadable: d.Dead != nil && d.Dead.Run == nil,
	}}
	for _, at := range d.Attempts {
		h := attemptView{utc(at.Started), durationOf(at.Took), at.Host, string(at.Kind), at.Message}
		if at.Kind == "" {
			h.Ended = string(broker.StateSucceeded)
		}
		v.History = append(v.History, h)
	}
	v.runView.addLast(d.Attempts)
	if d.Progress != nil {
		v.Progress = &progressView{d.Progress.Done, d.Progress.Total, d.Progress.Note}
	}
	v.addRun(d)
	v.Params, v.ParamsError = a.shownParams(d)
	v.Result, v.ResultError = a.shownResult(d)
	if d.Record != nil {
		for _, s := range d.Record.Successors {
			v.Successors = append(v.Successors, refView{s.ID, s.Queue})
		}
		if v.Parent == "" {
			v.Parent = d.Record.ParentID
		}
	}
	return v
}

// addRun adds what is known of a run that is stored.
func (v *runDetail) addRun(d *taskrt.RunDetail) {
	if d.Run == nil {
		return
	}
	v.Deliveries, v.Priority, v.Keep = d.Run.Deliveries, d.Run.Priority.String(), durationOf(d.Run.Keep)
	v.Parent, v.Root, v.Group, v.Headers = d.Run.ParentID, d.Run.RootID, d.Run.Links.OrZero().Group, d.Run.Headers
}

// shownParams returns the parameters in the form in which they are sent, or as people see
// them where JSON has no such form.
func (a *API) shownParams(d *taskrt.RunDetail) (json.RawMessage, string) {
	payload := d.Payload()
	t, known := a.byName[d.Task]
	if known && payload != nil {
		if form, err := a.forms.Params(t.Spec().Params); err == nil {
			if text, err := form.DecodeWith(payload, shown(t)); err == nil {
				return text, ""
			}
		}
	}
	if d.ParamsErr != nil {
		return nil, d.ParamsErr.Error()
	}
	if d.Params == nil {
		return nil, ""
	}
	text, err := json.Marshal(d.Params)
	if err != nil {
		return nil, "they have no form in JSON"
	}
	return text, ""
}

// shownResult returns the result, in the form of its wire form or as people see it.
func (a *API) shownResult(d *taskrt.RunDetail) (json.RawMessage, string) {
	if t, known := a.byName[d.Task]; known && d.Result != nil && t.HasResult() {
		if form, err := a.forms.Result(t.Spec().Result); err == nil {
			if text, err := form.DecodeWith(d.Record.Result, shown(t)); err == nil {
				return text, ""
			}
		}
	}
	if d.ResultErr != nil {
		return nil, d.ResultErr.Error()
	}
	return d.Result, ""
}

// queueView is a queue.
type queueView struct {
	Queue      string      `json:"queue"`
	Queued     int64       `json:"queued"`
	Held       int64       `json:"held" doc:"of queued: a limit or their turn keeps them back"`
	Delayed    int64       `json:"delayed"`
	Running    int64       `json:"running"`
	Dead       int64       `json:"dead"`
	Trimmed    int64       `json:"trimmed" doc:"dead letters beyond the limit of how many are kept"`
	Oldest     time.Time   `json:"oldest,omitzero" doc:"since when the run is due that waits the longest"`
	Consumers  *int        `json:"consumers" doc:"that take from it; null: unknown"`
	NoConsumer bool        `json:"no_consumer" doc:"it has runs, and no consumer takes from it"`
	Paused     bool        `json:"paused"`
	Disabled   []string    `json:"disabled" doc:"tasks"`
	Limits     []limitView `json:"limits,omitempty"`
}

type limitView struct {
	Key     string `json:"key"`
	Max     int    `json:"max"`
	Per     string `json:"per,omitempty" doc:"missing: at once"`
	Used    int    `json:"used"`
	Waiting int64  `json:"waiting"`
}

func queueOf(s taskrt.QueueStatus) queueView {
	v := queueView{
		Queue: s.Queue, Queued: s.Queued, Held: s.Held, Delayed: s.Delayed, Running: s.Running, Dead: s.Dead, Trimmed: s.Trimmed,
		Oldest: utc(s.Oldest), NoConsumer: s.NoConsumer, Paused: s.Paused, Disabled: append([]string{}, s.Disabled...),
	}
	if s.Consumers >= 0 {
		v.Consumers = &s.Consumers
	}
	for _, l := range s.Limits {
		v.Limits = append(v.Limits, limitView{l.Key, l.Max, durationOf(l.Per), l.Used, l.Waiting})
	}
	return v
}

// instanceView is a consumer or scheduler.
type instanceView struct {
	ID       string         `json:"id"`
	Role     string         `json:"role" doc:"consumer or scheduler"`
	Host     string         `json:"host"`
	PID      int            `json:"pid"`
	Version  string         `json:"version,omitempty"`
	Started  time.Time      `json:"started"`
	Seen     time.Time      `json:"seen" doc:"when it announced itself last"`
	Stopping bool           `json:"stopping"`
	Queues   map[string]int `json:"queues" doc:"with their weights"`
	More     int            `json:"more_queues,omitempty"`
	Address  string         `json:"address,omitempty" doc:"where it serves metrics"`
	Session  string         `json:"session,omitempty"`
	IO       *slotsView     `json:"io,omitempty"`
	CPU      *slotsView     `json:"cpu,omitempty"`
	Children int            `json:"children,omitempty"`
}

type slotsView struct {
	Busy  int `json:"busy"`
	Total int `json:"total"`
}

func instanceOf(i *broker.Instance) instanceView {
	v := instanceView{
		ID: i.ID, Role: string(i.Role), Host: i.Host, PID: i.PID, Version: i.Version, Started: utc(i.Started), Seen: utc(i.Seen),
		Stopping: i.Stopping, Queues: i.Queues, More: i.More, Address: i.Address, Session: i.Session, Children: i.Children,
	}
	if i.Role == broker.RoleConsumer {
		io, cpu := i.Slots[broker.IO], i.Slots[broker.CPU]
		v.IO, v.CPU = &slotsView{io.Busy, io.Total}, &slotsView{cpu.Busy, cpu.Total}
	}
	return v
}

// scheduleView is a schedule.
type scheduleView struct {
	ID       string    `json:"id,omitempty" doc:"of one made at run time; missing: of the task's directives"`
	Task     string    `json:"task"`
	Queue    string    `json:"queue"`
	Rule     string    `json:"rule" doc:"a cron expression, or @every and a duration"`
	Zone     string    `json:"zone,omitempty"`
	Last     time.Time `json:"last,omitzero" doc:"the last tick that was queued"`
	Next     time.Time `json:"next,omitzero" doc:"the tick behind it"`
	Disabled bool      `json:"disabled"`
	Overdue  bool      `json:"overdue"`
	Why      string    `json:"why,omitempty"`
}

func scheduleOf(s taskrt.ScheduleStatus) scheduleView {
	return scheduleView{s.ID, s.Task, s.Queue, s.Spec, s.Zone, utc(s.Last), utc(s.Next), s.Disabled, s.Overdue, s.Why}
}

// taskView is a task of the program.
type taskView struct {
	Name     string   `json:"name"`
	Aliases  []string `json:"aliases,omitempty"`
	Doc      string   `json:"doc,omitempty"`
	Kind     string   `json:"kind" doc:"io or cpu"`
	Queue    string   `json:"queue"`
	Priority string   `json:"priority"`
	Timeout  string   `json:"timeout" doc:"of an attempt"`
	Attempts int      `json:"attempts"`
	Expire   string   `json:"expire,omitempty"`
	Keep     string   `json:"keep,omitempty" doc:"how long the record is kept; missing: that of a success is not"`
	Tags     []string `json:"tags,omitempty"`
	Secrets  []string `json:"secrets,omitempty" doc:"parameters that are shown as ***"`
	Params   string   `json:"params" doc:"their wire form; openapi.json has them as JSON Schema"`
	Result   string   `json:"result,omitempty"`
}

func taskOf(t taskrt.Task) taskView {
	s := t.Spec()
	return taskView{
		s.Name, s.Aliases, s.Doc, s.Kind.String(), s.Queue, s.Priority.String(), durationOf(s.Timeout), s.Retry.Attempts, durationOf(s.Expire), durationOf(s.Keep),
		s.Tags, s.Secrets, s.Params, s.Result,
	}
}

// tallyView counts the attempts and ends of one task's runs in one minute.
type tallyView struct {
	Queue     string    `json:"queue"`
	Task      string    `json:"task"`
	Minute    time.Time `json:"minute"`
	Succeeded int64     `json:"succeeded"`
	Retried   int64     `json:"retried" doc:"attempts after which another follows"`
	Dead      int64     `json:"dead"`
	Dropped   int64     `json:"dropped" doc:"cancelled, expired or skipped"`
	Waits     []int64   `json:"waits,omitempty" doc:"attempts by how long the run was due: up to 1 ms, 2 ms, 4 ms and so on"`
	Times     []int64   `json:"times,omitempty" doc:"attempts by how long they took"`
}

func tallyOf(t *broker.Tally) tallyView {
	return tallyView{t.Queue, t.Task, t.Minute.UTC(), t.Succeeded, t.Retried, t.Dead, t.Dropped, bucketsOf(t.Waits), bucketsOf(t.Times)}
}

// bucketsOf returns a histogram up to its last bucket that has any.
func bucketsOf(h broker.Histogram) []int64 {
	n := len(h)
	for n > 0 && h[n-1] == 0 {
		n--
	}
	return slices.Clone(h[:n])
}

// jobView is a change of all that match.
type jobView struct {
	ID        string        `json:"id,omitempty"`
	User      string        `json:"user,omitempty"`
	Do        string        `json:"do"`
	State     string        `json:"state" doc:"running, done, stopped or failed; counted: it was a dry run"`
	Matched   *int          `json:"matched,omitempty" doc:"of a dry run"`
	Complete  *bool         `json:"complete,omitempty" doc:"of a dry run; false: there was no time to look at all, and there may be more"`
	Started   time.Time     `json:"started_at,omitzero"`
	Ended     time.Time     `json:"ended_at,omitzero"`
	PerSecond int           `json:"per_second,omitempty"`
	Changed   int           `json:"changed"`
	Stayed    int           `json:"stayed" doc:"that matched, and could not be changed"`
	Stays     []stayView    `json:"stays,omitempty" doc:"the first 100 of these"`
	Looked    int           `json:"looked" doc:"to a user of some tasks: those that matched"`
	Total     int64         `json:"total" doc:"how many there are to look at, about; to a user of some tasks: as looked"`
	Missing   []string      `json:"missing,omitempty" doc:"of the ids of the filter: those that no queue has"`
	Skipped   []skippedView `json:"skipped,omitempty"`
	Error     string        `json:"error,omitempty"`
}

type stayView struct {
	ID    string `json:"id"`
	Queue string `json:"queue,omitempty"`
	Why   string `json:"why"`
}
