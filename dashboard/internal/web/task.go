package web

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/typed"
	taskrt "github.com/taskgen/taskgen/runtime"
)

type taskView struct {
	taskRow
	Text    string   // its whole doc
	Aliases []string // of its name
	Facts   []fact
	Ticks   []time.Time // the next ones
	History *historyView
	Form    *formView // nil: the user may queue none
}

// PageTitle is the title of the page.
func (v *taskView) PageTitle() string { return "Task " + v.Name }

// fact is a name and what it is.
type fact struct{ Name, Text, Note string }

// taskOf returns the task of a page's address, if its user may see it.
func (s *site) taskOf(ctx context.Context, name string) (taskrt.Task, error) {
	if t, known := s.byName(name); known {
		return t, access.Check(ctx, access.Read, t.Name())
	}
	return taskrt.Task{}, notFound(fmt.Errorf("this program has no task %.100q; its runs can still be found by this name", name))
}

func taskPage(ctx context.Context, r *request) (any, error) {
	name, err := r.must("name")
	if err != nil {
		return nil, err
	}
	t, err := r.site.taskOf(ctx, name)
	if err != nil {
		return nil, err
	}
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	s := t.Spec()
	v := &taskView{taskRow: newTaskRow(t, f), Text: strings.TrimSpace(s.Doc), Aliases: s.Aliases, Facts: factsOf(t)}
	if all, err := t.Ticks(f.Schedules.Now); err == nil {
		for at := range all {
			if v.Ticks = append(v.Ticks, at); len(v.Ticks) == 5 {
				break
			}
		}
	}
	v.History = r.history(ctx, s.Queue, 1, func(tally *broker.Tally) bool {
		return tally.Task == s.Name || slices.Contains(s.Aliases, tally.Task)
	})
	if access.UserOf(ctx).Allows(access.Queue, t.Name()) {
		v.Form, err = r.formOf(ctx, t)
	}
	return v, err
}

// factsOf are the directives of a task in words.
func factsOf(t taskrt.Task) []fact {
	s := t.Spec()
	facts := []fact{
		{"Runs", map[taskrt.Kind]string{taskrt.IO: "on a goroutine of the consumer (io)", taskrt.CPU: "in a child process (cpu)"}[s.Kind], ""},
		{"Priority", s.Priority.String(), "within its queue"},
		{"Attempts", attemptsWords(s.Retry), ""},
		{"Time limit", durationWords(s.Timeout), "of one attempt"},
	}
	add := func(is bool, name, text, note string) {
		if is {
			facts = append(facts, fact{name, text, note})
		}
	}
	add(s.Expire > 0, "Expires", "if it has not started "+durationWords(s.Expire)+" after it was due", "")
	unique := "one live run with the same key, freed at its end or after " + durationWords(s.Unique)
	if s.UniqueUntilStart {
		unique = "one waiting run with the same key, freed when it starts or after " + durationWords(s.Unique)
	}
	add(s.Unique > 0, "Unique", unique, "")
	add(s.Limit.Concurrency > 0, "Concurrency", "at most "+strconv.Itoa(s.Limit.Concurrency)+" at once in the whole fleet", "for each value of its key, if it has one")
	rate := strconv.Itoa(s.Limit.Rate) + " starts in " + durationWords(s.Limit.Per)
	if s.Limit.Smooth {
		rate += ", spread evenly"
	}
	add(s.Limit.Rate > 0, "Rate", rate, "for each value of its key, if it has one")
	add(s.Fair, "Fair", "runs are taken in turn over the values of a parameter", "")
	add(s.Memory > 0, "Memory", bytesText(int(s.Memory)), "of a child process; beyond it the run ends as oom")
	kept := "no record of a success"
	if s.Keep > 0 {
		kept = "for " + durationWords(s.Keep) + " after the end"
	}
	facts = append(facts, fact{"Outcome and result", kept, ""})
	add(len(s.Secrets) > 0, "Secret parameters", strings.Join(s.Secrets, ", "), "shown as ***")
	return facts
}

func attemptsWords(r taskrt.RetryPolicy) string {
	if r.Attempts == 1 {
		return "1, without a retry"
	}
	return fmt.Sprintf("%d, with random pauses of up to %s at first and %s at last", r.Attempts, durationWords(r.Min), durationWords(r.Max))
}

// formView is the form that queues a run.
type formView struct {
	Inputs  []*typed.Input
	Options formOptions
	Errors  []string // of no field
	Lines   *typed.Lines
	Curl    [2]string // before and behind the dashboard's address
	Checked bool      // what was filled in fits the task
	Failed  bool      // it does not
	From    string    // the id of the run whose parameters it began with
	FromIn  string    // its queue
	Inexact bool
	Secrets bool // it has secrets, which a person has to write again after an error
	Queue   string
}

// formOptions are how a run is queued, as a person wrote them.
type formOptions struct {
	Queue, Priority, Delay, At, ID, Headers string
	Errors                                  map[string]string
}

// formState is what a person filled in, if the form was sent and is shown again.
type formState struct {
	values  url.Values
	errs    map[string]string
	options formOptions
	payload []byte // nil: it has errors
	old     bool   // there is a run before
}

// formOf returns the form of a task: as a person filled it in, with the parameters of a run,
// or empty.
func (r *request) formOf(ctx context.Context, t taskrt.Task) (*formView, error) {
	form, err := typed.New(t, &r.site.forms)
	if err != nil {
		r.warn("There is no form for its parameters: %v", err)
		return nil, nil
	}
	v := &formView{From: r.get("from"), FromIn: r.get("fromqueue"), Secrets: len(t.Spec().Secrets) > 0, Queue: t.Spec().Queue}
	state := r.form
	if state == nil {
		state = &formState{values: url.Values{}}
		if v.From != "" {
			if err := r.fillFrom(ctx, t, form, v, state); err != nil {
				return nil, err
			}
		}
	} else {
		v.Failed = len(state.errs)+len(state.options.Errors) > 0
		v.Checked = !v.Failed
	}
	v.Options = state.options
	v.Inputs, v.Errors = form.Inputs(state.values, state.errs, state.old)
	lines := form.Lines(r.site.Name, state.payload, state.options.lines())
	v.Lines = &lines
	v.Curl[0], v.Curl[1], _ = strings.Cut(lines.Curl, typed.Here)
	return v, nil
}

// fillFrom fills the form in with the parameters of a run.
func (r *request) fillFrom(ctx context.Context, t taskrt.Task, form *typed.Form, v *formView, state *formState) error {
	payload, run, err := r.site.payloadOf(ctx, t, v.From, v.FromIn)
	if err != nil {
		return err
	}
	values, exact, err := form.Values(payload)
	if err != nil {
		r.warn("The parameters of run %s do not fit the task as it is now, so the form is empty: %v", v.From, err)
		v.From, v.FromIn = "", ""
		return nil
	}
	state.values, state.old, state.payload, v.Inexact = values, true, payload, !exact
	if run.Queue != t.Spec().Queue {
		state.options.Queue = run.Queue
	}
	return nil
}

// payloadOf returns the parameters of a run of a task, whose user may read it.
func (s *site) payloadOf(ctx context.Context, t taskrt.Task, id, queue string) ([]byte, *taskrt.RunDetail, error) {
	d, err := s.runDetail(ctx, broker.RunRef{ID: id, Queue: queue})
	if err != nil {
		return nil, nil, err
	}
	switch {
	case d.Task != t.Name() && !slices.Contains(t.Spec().Aliases, d.Task):
		return nil, nil, badRequest("run %s is not one of task %s", id, t.Name())
	case d.Run != nil:
		return d.Run.Payload, d, nil
	case d.Record != nil && d.Record.Payload != nil:
		return d.Record.Payload, d, nil
	}
	return nil, nil, notFound(errors.New("the parameters of run " + id + " are not known any more"))
}
