package web

import (
	"cmp"
	"context"
	"strconv"

	"github.com/taskgen/taskgen/dashboard/internal/access"
)

// limitsOnPage is how many limits one page has.
const limitsOnPage = 100

type limitsView struct {
	Rows   []heldRow
	Tasks  []limitedTask
	Fair   []fairRow // queues in which runs wait for their turn
	Held   int64
	Cut    bool // of a queue not all limits are known
	Queue  string
	Pager  *pagerView
	Empty  *emptyView
	Queues int
}

// heldRow is a limit that holds runs back.
type heldRow struct {
	limitRow
	Queue string
	Known bool   // the task is one of the program's
	Runs  string // link to those that wait
	Full  bool
}

// limitedTask is a task that has a limit.
type limitedTask struct {
	Name, Queue string
	Rules       []string
	Fair        bool
}

// fairRow is a queue with runs that wait for their turn, or for limits that are not known.
type fairRow struct {
	Queue string
	Held  int64
}

func limitsPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	u := access.UserOf(ctx)
	v := &limitsView{Queue: r.get("queue")}
	for i := range f.Queues.Queues {
		q := &f.Queues.Queues[i]
		if v.Queue != "" && q.Queue != v.Queue || q.Held == 0 {
			continue
		}
		v.Queues++
		v.Held += q.Held
		rest := q.Held
		for n := range q.Limits {
			l := &q.Limits[n]
			rest -= l.Waiting
			if !u.Allows(access.Read, l.Task) {
				continue
			}
			row := heldRow{limitRow: newLimitRow(l), Queue: q.Queue, Full: l.Used >= l.Max}
			if l.Task != "" {
				_, row.Known = r.site.byName(l.Task)
				row.Runs, _ = link("runs", "state", "queued", "queue", q.Queue, "task", l.Task)
			}
			v.Rows = append(v.Rows, row)
		}
		if rest > 0 {
			v.Fair = append(v.Fair, fairRow{q.Queue, rest})
		}
	}
	sortRows(v.Rows, func(a, b heldRow) int { return cmp.Compare(b.Waiting, a.Waiting) })
	v.Pager = cutPage(r, &v.Rows, limitsOnPage, "Limits")
	v.addTasks(r, u)
	if len(v.Rows) == 0 && len(v.Fair) == 0 {
		v.Empty = &emptyView{Title: "Nothing is held back", Text: "No run waits behind a limit or for its turn. A task gets a limit by //task:concurrency or //task:rate, and turns by //task:fair."}
		if v.Queue != "" {
			v.Empty.Href, v.Empty.Link = "limits", "Show the limits of all queues"
		}
	}
	return v, nil
}

// addTasks adds the tasks that have limits, whether these hold something back or not.
func (v *limitsView) addTasks(r *request, u *access.User) {
	for _, t := range r.site.Tasks {
		s := t.Spec()
		if v.Queue != "" && s.Queue != v.Queue || !u.Allows(access.Read, s.Name) || len(v.Tasks) == limitsOnPage {
			continue
		}
		l := limitedTask{Name: s.Name, Queue: s.Queue, Fair: s.Fair}
		if s.Limit.Concurrency > 0 {
			l.Rules = append(l.Rules, strconv.Itoa(s.Limit.Concurrency)+" at once")
		}
		if s.Limit.Rate > 0 {
			l.Rules = append(l.Rules, strconv.Itoa(s.Limit.Rate)+" started in "+durationWords(s.Limit.Per))
		}
		if s.Fair {
			l.Rules = append(l.Rules, "in turn over the values of a parameter")
		}
		if len(l.Rules) > 0 {
			v.Tasks = append(v.Tasks, l)
		}
	}
}
