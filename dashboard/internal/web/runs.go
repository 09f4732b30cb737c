package web

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// runsOnPage is how many runs one page has.
const runsOnPage = 50

type runsView struct {
	Tabs    []stateTab
	Filter  *filterView
	Rows    []runRow
	Window  string // what was searched
	Pager   *pagerView
	Empty   *emptyView
	Problem string // of the filter

	CanCancel, CanRunNow bool   // some of the rows
	CancelAll, NowAll    string // links
	Deads                string // link to dead letters with the same filter
}

// stateTab is a state and how many runs are in it.
type stateTab struct {
	Title, Href string
	Count       string
	Current     bool
}

// runRow is a run in a table.
type runRow struct {
	Ref      runRef
	Task     string
	Queue    string
	State    broker.State
	Attempt  int
	Verb     string // what happened at the time
	At       time.Time
	Where    string // what is known of it beside
	Kind     string
	Priority string
	Choice   string // value of its checkbox
}

func newRunRow(i *broker.RunInfo, hosts map[string]string) runRow {
	run := i.Run
	row := runRow{Ref: newRef(run.ID, run.Queue), Task: run.Task, Queue: run.Queue, State: i.State, Attempt: run.Attempt}
	if run.Priority != broker.Medium {
		row.Priority = run.Priority.String() + " priority"
	}
	row.Choice = url.Values{"id": {run.ID}, "queue": {run.Queue}}.Encode()
	switch {
	case i.State == broker.StateRunning:
		row.Verb, row.At, row.Where = "started", i.Started, hosts[i.Session]
		if i.Started.IsZero() {
			row.Verb, row.At = "queued", run.QueuedAt
		}
	case i.State == broker.StateDelayed:
		row.Verb, row.At = "due", i.Due
	case i.State.Ended() && !i.Ended.IsZero():
		row.Verb, row.At = "ended", i.Ended
	default:
		row.Verb, row.At = "queued", run.QueuedAt
	}
	if i.Failure != nil && i.State != broker.StateSucceeded {
		row.Kind, row.Where = string(i.Failure.Kind), i.Failure.Message
		if i.State == broker.StateFailed && i.Failure.Kind == broker.FailureFailed {
			row.Kind = "" // its state says so
		}
	}
	return row
}

func runsPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	v := &runsView{Filter: r.filterView(ctx, f.names())}
	v.addTabs(r, f)
	filter, err := r.runFilter()
	if err != nil {
		v.Problem = err.Error()
		return v, nil
	}
	page, err := r.site.Inspector.Runs(ctx, filter, taskrt.PageOptions{After: r.get("after"), Max: runsOnPage})
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	r.warnSkippedTo(ctx, page.Skipped)
	hosts := f.hosts()
	u := access.UserOf(ctx)
	for _, i := range page.Runs {
		if u.Allows(access.Read, i.Run.Task) {
			v.Rows = append(v.Rows, newRunRow(i, hosts))
		}
	}
	v.describe(r, page, u.Restricted())
	v.addActions(r, u)
	return v, nil
}

// names returns the names of the queues.
func (f *fleet) names() (names []string) {
	for i := range f.Queues.Queues {
		names = append(names, f.Queues.Queues[i].Queue)
	}
	return names
}

// hosts returns where consumers are, by their sessions.
func (f *fleet) hosts() map[string]string {
	hosts := make(map[string]string, len(f.Instances))
	for _, i := range f.Instances {
		if i.Session != "" {
			hosts[i.Session] = fmt.Sprintf("on %s:%d", i.Host, i.PID)
		}
	}
	return hosts
}

// addTabs adds the states. How many runs are in one is known for those that wait or run.
func (v *runsView) addTabs(r *request, f *fleet) {
	var total queueRow
	only := r.all("queue")
	for i := range f.Queues.Queues {
		if q := &f.Queues.Queues[i]; len(only) == 0 || slices.Contains(only, q.Queue) {
			row := newQueueRow(q, f.Schedules.Now)
			total.add(&row)
		}
	}
	counts := map[broker.State]int64{broker.StateRunning: total.Running, broker.StateQueued: total.Queued, broker.StateDelayed: total.Delayed}
	current := r.get("state")
	v.Tabs = append(v.Tabs, stateTab{"All", r.with("state", ""), "", current == ""})
	for _, s := range runStates {
		tab := stateTab{strings.ToUpper(string(s[:1])) + string(s[1:]), r.with("state", string(s)), "", current == string(s)}
		if n, known := counts[s]; known {
			tab.Count = text.Thousands(n)
		}
		v.Tabs = append(v.Tabs, tab)
	}
}

// describe says what was searched, and what to do if nothing was found.
func (v *runsView) describe(r *request, page *taskrt.RunPage, restricted bool) {
	looked := text.Thousands(int64(page.Looked))
	switch {
	case restricted:
		v.Window = ofTheirs
	case page.Total >= 0 && int64(page.Looked) < page.Total:
		v.Window = fmt.Sprintf("Searched %s of about %s runs for this page.", looked, text.Thousands(page.Total))
	case page.After != "":
		v.Window = fmt.Sprintf("Searched %s runs for this page.", looked)
	default:
		v.Window = fmt.Sprintf("Searched all %s.", runsText(int64(page.Looked)))
		if r.get("after") != "" {
			v.Window = "Searched to the end."
		}
	}
	if page.After != "" || r.get("after") != "" {
		v.Pager = &pagerView{Text: v.Window}
		if r.get("after") != "" {
			v.Pager.First = r.with()
		}
		if page.After != "" {
			v.Pager.Next = r.with("after", page.After)
		}
	}
	if len(v.Rows) > 0 {
		return
	}
	switch {
	case len(page.Skipped) > 0:
		v.Empty = &emptyView{Title: "No run was found in what could be read", Text: "Some queues could not be read: see above.", Href: r.url(), Link: "Try again"}
	case page.After != "":
		v.Empty = &emptyView{Title: "None of these matches", Text: v.Window + " More were not looked at yet.", Href: r.with("after", page.After), Link: "Search on"}
	case v.Filter.Any:
		v.Empty = &emptyView{Title: "No run matches", Text: v.Window + " Of runs that have ended, only those with a record are found: //task:result says how long it is kept.", Href: v.Filter.Clear, Link: "Clear the filter"}
	default:
		v.Empty = &emptyView{Title: "There is no such run now", Text: "Runs that wait or run are here, and those that have ended for as long as their task keeps a record (//task:result).", Href: "tasks", Link: "Queue a run by a form"}
	}
}

// addActions adds what can be done to the rows, and to all that match.
func (v *runsView) addActions(r *request, u *access.User) {
	live, delayed := false, false
	for i := range v.Rows {
		live = live || !v.Rows[i].State.Ended()
		delayed = delayed || v.Rows[i].State == broker.StateDelayed
	}
	v.CanCancel = live && u.Has(access.Cancel)
	v.CanRunNow = delayed && u.Has(access.RunNow)
	pairs := r.filterQuery()
	if v.CanCancel {
		v.CancelAll, _ = link("bulk", append([]string{"do", "cancel"}, pairs...)...)
	}
	if v.CanRunNow {
		v.NowAll, _ = link("bulk", append([]string{"do", "run-now"}, pairs...)...)
	}
	if s := r.get("state"); s == "" || s == string(broker.StateFailed) {
		var same []string
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] != "state" {
				same = append(same, pairs[i], pairs[i+1])
			}
		}
		v.Deads, _ = link("dead", same...)
	}
}
