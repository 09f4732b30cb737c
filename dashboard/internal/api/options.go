package api

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/naming"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// query reads the parameters of a request's query, and refuses those that are unknown: one
// that is misspelt would choose more than it should.
type query struct {
	values url.Values
	err    error
}

func queryOf(req *http.Request, known ...string) *query {
	values, err := url.ParseQuery(req.URL.RawQuery)
	q := &query{values: values}
	if err != nil {
		q.err = invalid("the query cannot be read: it is not escaped as it should be")
		return q
	}
	for name := range values {
		if !slices.Contains(known, name) && name != "wait" {
			q.err = invalid("no parameter is named %.64q here; known are %s", name, strings.Join(known, ", "))
		}
	}
	return q
}

// text returns the one value of a parameter, empty if there is none.
func (q *query) text(name string) string {
	if len(q.values[name]) > 1 {
		q.fail(invalid("the parameter %s stands twice", name))
	}
	return q.values.Get(name)
}

func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

func (q *query) failIf(err error) {
	if err != nil {
		q.fail(err)
	}
}

// instant returns a time, or one that is a duration ago.
func (q *query) instant(name string) time.Time {
	text := q.text(name)
	if text == "" {
		return time.Time{}
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d)
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.fail(invalid("%s is no time such as 2006-01-02T15:04:05Z, nor a duration ago such as 1h", name))
	}
	return t
}

func (q *query) number(name string, least, most, otherwise int) int {
	text := q.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		q.fail(invalid("%s is no number from %d to %d", name, least, most))
	}
	return n
}

// parseDuration reads a duration that is not negative.
func parseDuration(name, text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, invalid("%s is no duration such as 1m30s", name)
	}
	return d, nil
}

// runOptions are how a run is queued.
type runOptions struct {
	Queue    string            `json:"queue,omitempty" doc:"another queue than the task's own"`
	Priority string            `json:"priority,omitempty" doc:"high, medium or low; the task's if it is empty"`
	Delay    string            `json:"delay,omitempty" doc:"not due before this duration has passed, such as 10m"`
	At       string            `json:"at,omitempty" doc:"not due before this time"`
	Keep     string            `json:"keep,omitempty" doc:"how long the record is kept after the end; the task's time if it is empty"`
	Headers  map[string]string `json:"headers,omitempty" doc:"headers of the run"`
}

// optionNames are the names of the parameters that are options of a run.
var optionNames = []string{"queue", "priority", "delay", "at", "keep", "header"}

// optionsOf returns the options in a query.
func optionsOf(q *query) runOptions {
	o := runOptions{Queue: q.text("queue"), Priority: q.text("priority"), Delay: q.text("delay"), At: q.text("at"), Keep: q.text("keep")}
	for _, text := range q.values["header"] {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" {
			q.fail(invalid("a header is not key=value"))
			continue
		}
		if o.Headers == nil {
			o.Headers = make(map[string]string)
		}
		o.Headers[key] = value
	}
	return o
}

var priorities = map[string]taskrt.Priority{"high": taskrt.High, "medium": taskrt.Medium, "low": taskrt.Low}

// of returns the options as the runtime takes them, with the id of a run if it has its own.
func (o runOptions) of(id string) (options []taskrt.QueueOption, err error) {
	run := &broker.TaskRun{ID: "-", Task: "-", Queue: "-", Headers: o.Headers}
	if o.Queue != "" {
		if why := naming.Problem(o.Queue); why != "" {
			return nil, invalid("queue name: %s", why)
		}
		run.Queue = o.Queue
		options = append(options, taskrt.OnQueue(o.Queue))
	}
	if id != "" {
		run.ID = id
		options = append(options, taskrt.ID(id))
	}
	if o.Priority != "" {
		p, ok := priorities[o.Priority]
		if !ok {
			return nil, invalid("priority is none of high, medium and low")
		}
		options = append(options, taskrt.WithPriority(p))
	}
	if o.Delay != "" {
		if run.Delay, err = parseDuration("delay", o.Delay); err != nil {
			return nil, err
		}
		options = append(options, taskrt.Delay(run.Delay))
	}
	if o.At != "" {
		at, err := time.Parse(time.RFC3339, o.At)
		if err != nil {
			return nil, invalid("at is no time such as 2006-01-02T15:04:05Z")
		}
		if o.Delay != "" {
			return nil, invalid("delay and at both say when the run is due; give one of them")
		}
		options = append(options, taskrt.At(at))
		if at.After(time.Now().Add(mostAhead)) {
			return nil, invalid("at is more than 100 years ahead")
		}
	}
	if o.Keep != "" {
		if run.Keep, err = parseDuration("keep", o.Keep); err != nil {
			return nil, err
		}
		options = append(options, taskrt.Keep(run.Keep))
	}
	if run.Delay > mostAhead || run.Keep > mostAhead {
		return nil, invalid("a duration is more than 100 years")
	}
	for key, value := range o.Headers {
		options = append(options, taskrt.Header(key, value))
	}
	if err := run.Validate(); err != nil {
		return nil, invalid("an option is not as it should be: %v", err)
	}
	return options, nil
}

// mostAhead is how long a run may be delayed, and its record kept.
const mostAhead = 100 * 365 * 24 * time.Hour

// filterNames are the parameters that choose runs or dead letters.
var filterNames = []string{"state", "queue", "task", "tag", "kind", "error", "key", "id", "since", "before"}

var states = []string{
	string(broker.StateRunning), string(broker.StateQueued), string(broker.StateDelayed),
	string(broker.StateFailed), string(broker.StateCancelled), string(broker.StateSucceeded),
}

var failureKinds = []string{
	string(taskrt.Failed), string(taskrt.Timeout), string(taskrt.Crashed), string(taskrt.OOM), string(taskrt.Cancelled),
	string(taskrt.Expired), string(taskrt.Schema), string(taskrt.Duplicate), string(taskrt.Lost),
}

// filterOf returns the filter of a query.
func (a *API) filterOf(q *query) taskrt.RunFilter {
	f := filter{
		States: q.values["state"], Queues: q.values["queue"], Task: q.text("task"), Tag: q.text("tag"), Kind: q.text("kind"),
		Error: q.text("error"), Key: q.text("key"), IDs: q.values["id"],
	}
	all, err := f.of(a)
	q.failIf(err)
	all.Since, all.Before = q.instant("since"), q.instant("before")
	return all
}

// filter chooses runs or dead letters.
type filter struct {
	States []string   `json:"states,omitempty" doc:"those in one of these states"`
	Queues []string   `json:"queues,omitempty" doc:"those of these queues; all if it is empty"`
	Task   string     `json:"task,omitempty" doc:"those of this task, under any of its names"`
	Tag    string     `json:"tag,omitempty" doc:"those of tasks with this tag"`
	Kind   string     `json:"kind,omitempty" doc:"those whose last failure was of this kind"`
	Error  string     `json:"error,omitempty" doc:"those with this text in why they failed"`
	Key    string     `json:"key,omitempty" doc:"those whose id begins so, or with this parent, root, group or unique key"`
	IDs    []string   `json:"ids,omitempty" doc:"those with these ids"`
	Since  *time.Time `json:"since,omitempty" doc:"those that were queued or, if they have ended, ended then or later"`
	Before *time.Time `json:"before,omitempty" doc:"those that were queued or, if they have ended, ended before"`
}

// maxIDs is how many ids a filter may have.
const maxIDs = 10_000

// of returns the filter as the runtime has it.
func (f *filter) of(a *API) (taskrt.RunFilter, error) {
	all := taskrt.RunFilter{Queues: f.Queues, Task: f.Task, Tag: f.Tag, Kind: taskrt.FailureKind(f.Kind), Error: f.Error, Key: f.Key, IDs: f.IDs}
	if t, ok := a.byName[f.Task]; ok {
		all.Task = t.Name()
	}
	for _, state := range f.States {
		if !slices.Contains(states, state) {
			return all, invalid("no state is named %.64q; known are %s", state, strings.Join(states, ", "))
		}
		all.States = append(all.States, broker.State(state))
	}
	for _, queue := range f.Queues {
		if err := checkQueue(queue); err != nil {
			return all, err
		}
	}
	if f.Kind != "" && !slices.Contains(failureKinds, f.Kind) {
		return all, invalid("no kind of failure is named %.64q; known are %s", f.Kind, strings.Join(failureKinds, ", "))
	}
	if len(f.IDs) > maxIDs {
		return all, invalid("more than %d ids", maxIDs)
	}
	if f.Tag != "" && !slices.ContainsFunc(a.Tasks, func(t taskrt.Task) bool { return slices.Contains(t.Spec().Tags, f.Tag) }) {
		return all, invalid("no task has the tag %.64q", f.Tag)
	}
	if f.Since != nil {
		all.Since = *f.Since
	}
	if f.Before != nil {
		all.Before = *f.Before
	}
	return all, nil
}

func checkQueue(name string) error {
	if (&broker.TaskRun{ID: "-", Task: "-", Queue: name}).Validate() != nil {
		return invalid("no queue can be named %.64q", name)
	}
	return nil
}

// mayRead returns a function that reports whether a request's user may read what is of a task.
func mayRead(req *http.Request) func(task string) bool {
	u := access.UserOf(req.Context())
	return func(task string) bool { return u.Allows(access.Read, task) }
}
