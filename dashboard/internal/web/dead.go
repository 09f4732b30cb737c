package web

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/live"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	deadOnPage     = 50              // letters
	deadGroupsPage = 50              // groups
	deadGroupsAge  = 3 * time.Second // groups are shown for so long: up to 10,000 letters are read for them
)

type deadView struct {
	Tabs    []sortLink
	Filter  *filterView
	Alike   string // the error of the group whose letters are shown
	Problem string // of the filter
	Window  string // what was looked at
	Groups  []deadGroupRow
	Others  int
	Rows    []letterRow
	Pager   *pagerView
	Empty   *emptyView

	CanRetry, CanDelete bool
	RetryAll, DeleteAll string // links
	List                bool
	Trimmed             int64 // letters that were ever removed, as there were too many
}

// deadGroupRow is a group of dead letters in a table.
type deadGroupRow struct {
	*taskrt.DeadGroup
	Letters, Retry, Delete string // links
	Sample                 runRef
	Text                   string // the first line of the sample's error
}

// letterRow is a dead letter in a table.
type letterRow struct {
	Ref     runRef
	Task    string
	Queue   string
	Kind    broker.FailureKind
	Message string
	At      time.Time
	Attempt int
	Choice  string
}

// newDeadGroups returns the groups that pages share, by the query of their filter.
func newDeadGroups(s *site) *live.Keyed[string, *taskrt.DeadGroups] {
	return live.NewKeyed(32, func(key string) *live.Shared[*taskrt.DeadGroups] {
		return live.NewShared(deadGroupsAge, lookTimeout, func(ctx context.Context) (*taskrt.DeadGroups, error) {
			q, err := url.ParseQuery(key)
			if err != nil {
				return nil, err
			}
			f, err := runFilterOf(s, q, time.Now())
			if err != nil {
				return nil, err
			}
			return s.Inspector.DeadGroups(ctx, f, 0)
		})
	})
}

func deadPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	v := &deadView{Filter: r.filterView(ctx, f.names()), Alike: r.get("alike"), List: r.get("list") != "" || r.get("alike") != ""}
	v.Tabs = []sortLink{{"Grouped by error", r.with("list", "", "alike", ""), !v.List}, {"One by one", r.with("list", "1", "alike", ""), v.List}}
	for _, name := range []string{"list", "alike"} {
		if value := r.get(name); value != "" {
			v.Filter.Hidden = append(v.Filter.Hidden, field{name, value})
		}
	}
	filter, err := r.runFilter()
	if err != nil {
		v.Problem = err.Error()
		return v, nil
	}
	for i := range f.Queues.Queues {
		v.Trimmed += f.Queues.Queues[i].Trimmed
	}
	u := access.UserOf(ctx)
	v.CanRetry, v.CanDelete = u.Has(access.Retry), u.Has(access.Delete)
	if u.Allows(access.Retry, filter.Task) {
		v.RetryAll, _ = link("bulk", append([]string{"do", "retry"}, r.filterQuery()...)...)
	}
	if u.Allows(access.Delete, filter.Task) {
		v.DeleteAll, _ = link("bulk", append([]string{"do", "delete"}, r.filterQuery()...)...)
	}
	if v.List {
		return v, v.list(ctx, r, filter)
	}
	return v, v.group(ctx, r)
}

// group shows the groups.
func (v *deadView) group(ctx context.Context, r *request) error {
	q := url.Values{}
	for _, name := range filterNames {
		if all := r.all(name); len(all) > 0 {
			q[name] = all
		}
	}
	seen := r.site.deads.Get(ctx, q.Encode())
	all := seen.Value
	if all == nil {
		return seen.Err
	}
	if seen.Err != nil {
		r.asOf = seen.At
		r.warn("The dead letters cannot be read: %v", seen.Err)
	}
	r.warnSkippedTo(ctx, all.Skipped)
	u := access.UserOf(ctx)
	found := 0
	for i := range all.Groups {
		g := &all.Groups[i]
		if !u.Allows(access.Read, g.Task) {
			continue
		}
		found += g.Count
		if len(v.Groups) == deadGroupsPage {
			v.Others += g.Count
			continue
		}
		v.Groups = append(v.Groups, r.deadGroupRow(u, g))
	}
	v.Window = window(int64(all.Looked), all.Total, "dead letter")
	if u.Restricted() {
		v.Window = ofTheirs
	} else {
		v.Others += all.Others
	}
	if len(v.Groups) == 0 {
		v.Empty = v.empty(r, all.Total)
	}
	return nil
}

// window says which of all were looked at.
func window(looked, total int64, thing string) string {
	if looked >= total {
		return fmt.Sprintf("Looked at all %s %s.", text.Thousands(looked), plural(looked, thing, thing+"s"))
	}
	return fmt.Sprintf("Looked at the newest %s of %s %s.", text.Thousands(looked), text.Thousands(total), plural(total, thing, thing+"s"))
}

func (r *request) deadGroupRow(u *access.User, g *taskrt.DeadGroup) deadGroupRow {
	row := deadGroupRow{DeadGroup: g, Text: g.Sample.Failure.Message}
	queue := ""
	if g.Sample.Run != nil {
		queue = g.Sample.Run.Queue
	}
	row.Sample = newRef(g.Sample.ID, queue)
	of := []string{"task", g.Task, "kind", string(g.Kind), "alike", g.Error}
	for _, name := range filterNames {
		if name == "task" || name == "kind" || name == "alike" {
			continue
		}
		for _, value := range r.all(name) {
			of = append(of, name, value)
		}
	}
	row.Letters, _ = link("dead", append([]string{"list", "1"}, of...)...)
	if g.Error == "" {
		return row // no filter chooses those alone
	}
	if u.Allows(access.Retry, g.Task) {
		row.Retry, _ = link("bulk", append([]string{"do", "retry"}, of...)...)
	}
	if u.Allows(access.Delete, g.Task) {
		row.Delete, _ = link("bulk", append([]string{"do", "delete"}, of...)...)
	}
	return row
}

// list shows letters.
func (v *deadView) list(ctx context.Context, r *request, filter taskrt.RunFilter) error {
	page, err := r.site.Inspector.Dead(ctx, filter, taskrt.PageOptions{After: r.get("after"), Max: deadOnPage})
	if err != nil {
		return fmt.Errorf("list dead letters: %w", err)
	}
	r.warnSkippedTo(ctx, page.Skipped)
	u := access.UserOf(ctx)
	for _, letter := range page.Letters {
		row := letterRow{
			Ref: newRef(letter.ID, letter.Queue), Queue: letter.Queue, Kind: letter.Failure.Kind, Message: letter.Failure.Message, At: letter.At,
			Choice: url.Values{"id": {letter.ID}, "queue": {letter.Queue}}.Encode(),
		}
		if letter.Run != nil {
			row.Task, row.Attempt = letter.Run.Task, letter.Run.Attempt
		}
		if u.Allows(access.Read, row.Task) {
			v.Rows = append(v.Rows, row)
		}
	}
	v.Window = window(int64(page.Looked), page.Total, "dead letter")
	if u.Restricted() {
		v.Window = ofTheirs
	}
	if r.get("after") != "" || page.After != "" {
		v.Pager = &pagerView{Text: fmt.Sprintf("Looked at %s of %s dead letters for this page, the newest first.", text.Thousands(int64(page.Looked)), text.Thousands(page.Total))}
		if u.Restricted() {
			v.Pager.Text = ofTheirs
		}
		if r.get("after") != "" {
			v.Pager.First = r.with()
		}
		if page.After != "" {
			v.Pager.Next = r.with("after", page.After)
		}
	}
	switch {
	case len(v.Rows) > 0:
	case page.After != "":
		v.Empty = &emptyView{Title: "None of these matches", Text: v.Window + " More were not looked at yet.", Href: r.with("after", page.After), Link: "Search on"}
	default:
		v.Empty = v.empty(r, page.Total)
	}
	return nil
}

// empty says what to do if nothing is there.
func (v *deadView) empty(r *request, total int64) *emptyView {
	if total == 0 {
		return &emptyView{Title: "There is no dead letter", Text: "A run that fails for good is kept here, with its parameters and why it failed, until somebody queues it again or deletes it.", Href: "runs", Link: "Show the runs"}
	}
	return &emptyView{Title: "No dead letter matches", Text: v.Window, Href: v.Filter.Clear, Link: "Clear the filter"}
}
