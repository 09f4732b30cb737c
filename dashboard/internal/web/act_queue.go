package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/typed"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Names of the form's fields beside those of parameters.
const (
	optQueue, optPriority, optDelay = "o:queue", "o:priority", "o:delay"
	optAt, optID, optHeaders        = "o:at", "o:id", "o:headers"
)

var priorities = map[string]taskrt.Priority{"high": taskrt.High, "medium": taskrt.Medium, "low": taskrt.Low}

func optionsIn(form url.Values) formOptions {
	get := func(name string) string { return strings.TrimSpace(form.Get(name)) }
	return formOptions{
		Queue: get(optQueue), Priority: get(optPriority), Delay: get(optDelay), At: get(optAt), ID: get(optID),
		Headers: strings.ReplaceAll(get(optHeaders), "\r\n", "\n"), Errors: make(map[string]string),
	}
}

// headers returns the headers, one on a line.
func (o *formOptions) headers() (lines []string) {
	for line := range strings.Lines(o.Headers) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

func (o *formOptions) lines() typed.Options {
	return typed.Options{Queue: o.Queue, Priority: o.Priority, Delay: o.Delay, At: o.At, ID: o.ID, Headers: o.headers()}
}

// of returns the options as the runtime takes them. What is wrong stands in Errors.
func (o *formOptions) of() (options []taskrt.QueueOption) {
	run := func() *broker.TaskRun { return &broker.TaskRun{ID: "-", Task: "-", Queue: "-"} }
	check := func(name string, set func(*broker.TaskRun), text string) bool {
		r := run()
		if set(r); r.Validate() != nil {
			o.Errors[name] = text
			return false
		}
		return true
	}
	if o.Queue != "" && check(optQueue, func(r *broker.TaskRun) { r.Queue = o.Queue }, "no queue can have this name") {
		options = append(options, taskrt.OnQueue(o.Queue))
	}
	if o.ID != "" && check(optID, func(r *broker.TaskRun) { r.ID = o.ID }, "an id has at most 200 characters of printable ASCII, and no spaces") {
		options = append(options, taskrt.ID(o.ID))
	}
	if p, known := priorities[o.Priority]; known {
		options = append(options, taskrt.WithPriority(p))
	} else if o.Priority != "" {
		o.Errors[optPriority] = "this is none of high, medium and low"
	}
	if o.Delay != "" {
		d, err := time.ParseDuration(o.Delay)
		if err != nil || d < 0 || !check(optDelay, func(r *broker.TaskRun) { r.Delay = d }, "") {
			o.Errors[optDelay] = "this is no duration such as 10m"
		}
		options = append(options, taskrt.Delay(d))
	}
	if o.At != "" {
		at, err := time.Parse(time.RFC3339, typed.Instant(o.At))
		switch {
		case err != nil || !check(optAt, func(r *broker.TaskRun) { r.Due = at }, ""):
			o.Errors[optAt] = "this is no time such as 2006-01-02 15:04:05"
		case o.Delay != "":
			o.Errors[optAt] = "the delay says too when the run is due; leave one of them empty"
		}
		options = append(options, taskrt.At(at))
	}
	for _, line := range o.headers() {
		key, value, found := strings.Cut(line, "=")
		if !found || key == "" || !check(optHeaders, func(r *broker.TaskRun) { r.Headers = map[string]string{key: value} }, "") {
			o.Errors[optHeaders] = "each line is key=value"
			continue
		}
		options = append(options, taskrt.Header(key, value))
	}
	return options
}

// againError has act show the page of a form again, as a person filled it in.
type againError struct {
	page   string
	query  url.Values
	form   *formState
	status int
}

// Error does not quote what was filled in, as it is logged.
func (e *againError) Error() string { return "what was filled in does not fit the task" }

// showAgain shows the page of a form again.
func (s *site) showAgain(w http.ResponseWriter, r *http.Request, e *againError) {
	req := &request{site: s, page: s.pages[e.page], path: e.page, query: e.query, form: e.form}
	s.showAs(w, r, req, e.status)
}

// filledIn reads the form of a task.
func (s *site) filledIn(ctx context.Context, form url.Values) (taskrt.Task, *againError, error) {
	name, err := inForm(form, "task")
	if err != nil {
		return taskrt.Task{}, nil, err
	}
	t, err := s.taskOf(ctx, name)
	if err != nil {
		return t, nil, err
	}
	f, err := typed.New(t, &s.forms)
	if err != nil {
		return t, nil, err
	}
	e := &againError{page: "task", query: url.Values{"name": {t.Name()}}, status: http.StatusOK}
	state := &formState{values: form, options: optionsIn(form)}
	var old []byte
	if from := form.Get("from"); from != "" {
		if old, _, err = s.payloadOf(ctx, t, from, form.Get("fromqueue")); err != nil {
			return t, nil, err
		}
		state.old = true
		e.query.Set("from", from)
		e.query.Set("fromqueue", form.Get("fromqueue"))
	}
	state.payload, _, state.errs = f.Encode(form, old)
	e.form = state
	return t, e, nil
}

// previewRun shows the form again with the command lines of what was filled in.
func previewRun(ctx context.Context, s *site, form url.Values) (int, error) {
	_, e, err := s.filledIn(ctx, form)
	if err != nil {
		return 0, err
	}
	e.form.options.of()
	if len(e.form.errs) > 0 || len(e.form.options.Errors) > 0 {
		e.status = http.StatusUnprocessableEntity
	}
	return 0, e
}

// queueRun queues the run that a person filled in.
func queueRun(ctx context.Context, s *site, form url.Values) (int, error) {
	t, e, err := s.filledIn(ctx, form)
	if err != nil {
		return 0, err
	}
	options := e.form.options.of()
	if len(e.form.errs) > 0 || len(e.form.options.Errors) > 0 {
		e.status = http.StatusUnprocessableEntity
		return 0, e
	}
	run, err := s.Client.QueueTask(ctx, t, e.form.payload, options...)
	if run != nil && run.ID != "" {
		access.EntryOf(ctx).Set(access.Queue, t.Name(), run.ID)
	}
	var duplicates *taskrt.DuplicateError
	switch {
	case errors.Is(err, taskrt.ErrNotReplicated): // it is queued
	case errors.As(err, &duplicates) && len(duplicates.Runs) > 0:
		return 0, statusError{http.StatusConflict, err}
	case errors.Is(err, taskrt.ErrQueueFull), errors.Is(err, taskrt.ErrPayloadTooLarge), errors.Is(err, taskrt.ErrDuplicate):
		return 0, statusError{http.StatusConflict, err}
	case err != nil:
		return 0, err
	}
	back, err := link("run", "id", run.ID, "queue", run.Queue)
	form.Set("back", back)
	return 0, err
}
