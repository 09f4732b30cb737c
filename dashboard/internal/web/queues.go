package web

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// queuesOnPage is how many queues one page has.
const queuesOnPage = 100

type queuesView struct {
	Rows    []queueRow
	Total   queueRow
	Known   int // queues
	Matched int
	Filter  string
	Sorts   []sortLink
	Pager   *pagerView
	Empty   *emptyView
}

// queueRow is a queue in a table.
type queueRow struct {
	Name       string
	Notes      []note
	Oldest     time.Duration // how long the run is due that waits the longest; 0: none waits
	Queued     int64
	Held       int64
	Delayed    int64
	Running    int64
	Dead       int64
	Consumers  string
	NoConsumer bool
	Paused     bool
}

// note is what a person should know of a thing, with the class of its colour.
type note struct{ Class, Text string }

// sortLink is a way to sort a table.
type sortLink struct {
	Title, Href string
	Current     bool
}

// pagerView is where a list goes on.
type pagerView struct{ Text, First, Next string }

// emptyView says that a list is empty, and what to do next.
type emptyView struct{ Title, Text, Code, Href, Link string }

func newQueueRow(q *taskrt.QueueStatus, now time.Time) queueRow {
	row := queueRow{
		Name: q.Queue, Queued: q.Queued, Held: q.Held, Delayed: q.Delayed, Running: q.Running, Dead: q.Dead,
		NoConsumer: q.NoConsumer, Paused: q.Paused, Consumers: "?",
	}
	if !q.Oldest.IsZero() {
		row.Oldest = max(now.Sub(q.Oldest), time.Millisecond)
	}
	if q.Consumers >= 0 {
		row.Consumers = strconv.Itoa(q.Consumers)
	}
	if q.NoConsumer {
		row.Notes = append(row.Notes, note{"s-bad", "no consumer"})
	}
	if q.Paused {
		row.Notes = append(row.Notes, note{"s-paused", "paused"})
	}
	if n := len(q.Disabled); n > 0 {
		row.Notes = append(row.Notes, note{"s-paused", strconv.Itoa(n) + plural(n, " task disabled", " tasks disabled")})
	}
	return row
}

func (r *queueRow) add(q *queueRow) {
	r.Queued += q.Queued
	r.Held += q.Held
	r.Delayed += q.Delayed
	r.Running += q.Running
	r.Dead += q.Dead
	r.Oldest = max(r.Oldest, q.Oldest)
}

// queueSorts are how the queues can be sorted: the value of sort, and the order.
var queueSorts = []struct {
	name, title string
	compare     func(a, b queueRow) int
}{
	{"", "Needs attention", func(a, b queueRow) int {
		return cmp.Or(cmp.Compare(b.urgency(), a.urgency()), cmp.Compare(a.Name, b.Name))
	}},
	{"name", "Name", func(a, b queueRow) int { return cmp.Compare(a.Name, b.Name) }},
	{"oldest", "Oldest due", func(a, b queueRow) int { return cmp.Compare(b.Oldest, a.Oldest) }},
	{"queued", "Queued", func(a, b queueRow) int { return cmp.Compare(b.Queued, a.Queued) }},
	{"running", "Running", func(a, b queueRow) int { return cmp.Compare(b.Running, a.Running) }},
	{"dead", "Dead letters", func(a, b queueRow) int { return cmp.Compare(b.Dead, a.Dead) }},
}

// urgency is how much a queue needs a person.
func (r *queueRow) urgency() int {
	switch {
	case r.NoConsumer:
		return 3
	case len(r.Notes) > 0:
		return 2
	case r.Dead > 0:
		return 1
	}
	return 0
}

func queuesPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	v := &queuesView{Filter: r.get("name"), Known: len(f.Queues.Queues)}
	for i := range f.Queues.Queues {
		row := newQueueRow(&f.Queues.Queues[i], f.Schedules.Now)
		if v.Filter != "" && !strings.Contains(strings.ToLower(row.Name), strings.ToLower(v.Filter)) {
			continue
		}
		v.Total.add(&row)
		v.Rows = append(v.Rows, row)
	}
	v.Matched = len(v.Rows)
	for _, s := range queueSorts {
		current := r.get("sort") == s.name
		if current {
			sortRows(v.Rows, s.compare)
		}
		v.Sorts = append(v.Sorts, sortLink{s.title, r.with("sort", s.name, "from", ""), current})
	}
	v.Pager = cutPage(r, &v.Rows, queuesOnPage, "Queues")
	switch {
	case v.Known == 0:
		v.Empty = &emptyView{Title: "No queue has held a run yet", Text: "A queue is there once a run was queued to it, or a task of this program names it. Queue one from a program, or by its form.", Href: "tasks", Link: "Go to the tasks"}
	case v.Matched == 0:
		v.Empty = &emptyView{Title: "No queue has this in its name", Text: "None of the " + strconv.Itoa(v.Known) + " queues does.", Href: "queues", Link: "Show all queues"}
	}
	return v, nil
}
