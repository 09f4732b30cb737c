package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/internal/text"
)

// mostForm is how large a form can be, in bytes: a run's parameters fit.
const mostForm = 4 << 20

// act is something that a person does by a form of one button.
type act struct {
	action  access.Action
	ofRuns  bool   // it is done to runs, and checks for the task of each whether the user may
	danger  bool   // it cannot be taken back
	confirm string // asked before it is done, if there is a script
	done    string // shown once it is done; %s is the form's n: how many

	// do does it. It returns how many it changed, or 0 where that is not counted.
	do func(ctx context.Context, s *site, form url.Values) (n int, err error)
}

// acts are what people do, by the value of "do".
var acts = map[string]act{
	"pause":  {action: access.Pause, done: "The queue is paused: consumers take no more runs of it. Runs that were taken before go on.", do: pauseQueue},
	"resume": {action: access.Pause, done: "The queue is resumed.", do: resumeQueue},
	"cancel": {
		action: access.Cancel, ofRuns: true, danger: true, confirm: "Cancel this run?", do: eachRun(access.Cancel, cancelRun),
		done: "Cancelled: %s. One that runs ends once its consumer has learned of it, within about a second.",
	},
	"run-now": {action: access.RunNow, ofRuns: true, done: "Made due now: %s.", do: eachRun(access.RunNow, runNow)},
	"retry":   {action: access.Retry, ofRuns: true, done: "Queued again: %s, with all attempts.", do: eachRun(access.Retry, retryRun)},
	"delete": {
		action: access.Delete, ofRuns: true, danger: true, confirm: "Delete this dead letter for good?", done: "Deleted for good: %s.",
		do: eachRun(access.Delete, deleteRun),
	},

	"all-cancel":  {action: access.Cancel, do: startBulk(bulk.Cancel)},
	"all-run-now": {action: access.RunNow, do: startBulk(bulk.RunNow)},
	"all-retry":   {action: access.Retry, do: startBulk(bulk.Requeue)},
	"all-delete":  {action: access.Delete, do: startBulk(bulk.Delete)},
	"all-stop":    {action: access.Cancel, ofRuns: true, do: stopBulk, done: "The job is stopped. What it changed stays so."},

	"queue":   {action: access.Queue, done: "The run is queued.", do: queueRun},
	"preview": {action: access.Queue, do: previewRun},
	"tick":    {action: access.Queue, done: "A run is queued. The schedule goes on as before.", do: runSchedule},
	"unschedule": {
		action: access.Schedule, danger: true, confirm: "End this schedule? Programs can make it again.", do: endSchedule,
		done: "The schedule has ended. Runs that it queued stay.",
	},
	"disable": {action: access.Disable, danger: true, done: "The task is disabled: no consumer takes its runs, and no tick is queued. Runs that were taken before go on.", do: disableTask},
	"enable":  {action: access.Disable, done: "The task is enabled.", do: enableTask},
}

// doneText returns what a form did, from the address that it sent people to.
func doneText(did, n string) string {
	a, known := acts[did]
	if !known {
		return ""
	}
	count, err := strconv.Atoi(n)
	if err != nil || !strings.Contains(a.done, "%s") {
		return a.done
	}
	return fmt.Sprintf(a.done, text.Count(count, "run"))
}

// act does what a form asks for, and sends people back to the page they came from.
func (s *site) act(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		s.fail(w, r, statusError{http.StatusMethodNotAllowed, errors.New("this is what forms are sent to")})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		s.fail(w, r, badRequest("read the form: %v", err))
		return
	}
	form := r.PostForm
	verb := form.Get("do")
	a, known := acts[verb]
	if !known {
		s.fail(w, r, badRequest("a form asks for %.40q; known are %s", verb, text.List(slices.Sorted(maps.Keys(acts)), 20)))
		return
	}
	n, err := s.do(r.Context(), a, form)
	var again *againError
	if errors.As(err, &again) {
		s.showAgain(w, r, again)
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.looks.forget()
	s.deads.Forget()
	redirect(w, r, backTo(form.Get("back"), verb, n))
}

// do does what the user may do, and has it logged.
func (s *site) do(ctx context.Context, a act, form url.Values) (n int, err error) {
	entry, task := access.EntryOf(ctx), form.Get("task")
	ids := append(form["id"], form["run"]...)
	if len(ids) == 0 {
		ids = form["queue"]
	}
	entry.Set(a.action, task, ids...)
	entry.Add("do", form.Get("do"), "queue", strings.Join(form["queue"], " "))
	if !a.ofRuns {
		err = access.Check(ctx, a.action, task)
	}
	if err == nil {
		n, err = a.do(ctx, s, form)
	}
	if err != nil {
		entry.Fail(err)
	}
	return n, err
}

// backTo returns the page of this site that a form names, with what was done. Another
// address becomes that of the overview.
func backTo(back, verb string, n int) string {
	u, err := url.Parse(back)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || !isPage(strings.TrimPrefix(u.Path, "./")) {
		u = &url.URL{}
	}
	q := u.Query()
	q.Set("did", verb)
	q.Del("n")
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	path := strings.TrimPrefix(u.Path, "./")
	if path == "" {
		path = "./"
	}
	return path + "?" + q.Encode()
}

func isPage(name string) bool {
	return slices.ContainsFunc(pages, func(p page) bool { return p.name == name })
}

// inForm returns a value that a form must have.
func inForm(form url.Values, name string) (string, error) {
	if v := strings.TrimSpace(form.Get(name)); v != "" {
		return v, nil
	}
	return "", badRequest("the form lacks %s", name)
}

func pauseQueue(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, switchQueue(ctx, form, s.Inspector.Pause)
}

func resumeQueue(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, switchQueue(ctx, form, s.Inspector.Resume)
}

func switchQueue(ctx context.Context, form url.Values, do func(ctx context.Context, queue string) error) error {
	queue, err := inForm(form, "queue")
	if err != nil {
		return err
	}
	if err := checkQueue(queue); err != nil {
		return err
	}
	return do(ctx, queue)
}

// disableTask stops the delivery of a task's runs in its queue.
func disableTask(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, switchTask(ctx, form, s.Inspector.Disable)
}

func enableTask(ctx context.Context, s *site, form url.Values) (int, error) {
	return 0, switchTask(ctx, form, s.Inspector.Enable)
}

func switchTask(ctx context.Context, form url.Values, do func(ctx context.Context, task string, queues ...string) error) error {
	task, err := inForm(form, "task")
	if err != nil {
		return err
	}
	for _, queue := range form["queue"] {
		if err := checkQueue(queue); err != nil {
			return err
		}
	}
	return do(ctx, task, form["queue"]...)
}
