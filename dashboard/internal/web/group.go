package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Bounds of what a tree is made of.
const (
	treeRuns    = 200  // runs
	treeLook    = 2000 // runs that are looked at to find them
	treeDead    = 1000 // dead letters, in all queues
	treeMembers = 25   // members of a group whose ends are read: each takes a command
)

type groupView struct {
	Title   string
	Of      *runRef // the run whose tree it is; nil: the page is of a group
	Group   string
	Queue   string
	Roots   []*treeNode
	Nodes   int
	Search  string // what was searched
	Further string // link that searches on
	Members []memberRow
	Size    int // of the group; 0: unknown
	Cut     bool
	Gathers *treeNode // the run that gets the results
	Pending bool      // that is not queued yet
	Empty   *emptyView
}

// PageTitle is the title of the page.
func (v *groupView) PageTitle() string { return v.Title }

// treeNode is a run in a tree.
type treeNode struct {
	Ref      runRef
	Task     string
	State    broker.State
	Kind     string // of its failure
	Notes    []treeNote
	Children []*treeNode
	Then     []string // tasks that its success queues
	This     bool     // the page is of it

	parent string
	run    *broker.TaskRun
}

// treeNote is what a run has to do with a group.
type treeNote struct{ Text, Href string }

// memberRow is a member of a group.
type memberRow struct {
	Place int
	Ref   *runRef
	Task  string
	State broker.State // empty: not known
	Kind  string
}

// tree collects runs that belong together.
type tree struct {
	user  *access.User
	nodes map[string]*treeNode
	order []*treeNode
}

// add adds a run, once.
func (t *tree) add(run *broker.TaskRun, state broker.State, failure *broker.Failure) *treeNode {
	if run == nil || !t.user.Allows(access.Read, run.Task) {
		return nil
	}
	if n := t.nodes[run.ID]; n != nil && n.Ref.Queue == run.Queue {
		return n
	}
	n := &treeNode{Ref: newRef(run.ID, run.Queue), Task: run.Task, State: state, parent: run.ParentID, run: run}
	if failure != nil && state == broker.StateFailed {
		n.Kind = kindBeside(failure.Kind)
	}
	links := run.Links.OrZero()
	if links.Group != "" {
		href, _ := link("group", "id", links.Group, "queue", run.GroupQueue())
		n.Notes = append(n.Notes, treeNote{fmt.Sprintf("member %d of group %s", links.Member+1, newRef(links.Group, "").Short), href})
	}
	if links.Awaits.ID != "" {
		href, _ := link("group", "id", links.Awaits.ID, "queue", links.Awaits.Queue)
		n.Notes = append(n.Notes, treeNote{fmt.Sprintf("gathers the %d members of group %s", links.Awaits.Size, newRef(links.Awaits.ID, "").Short), href})
	}
	n.Then = thenTasks(t.user, links.Then)
	t.nodes[run.ID] = n
	t.order = append(t.order, n)
	return n
}

// kindBeside is a kind of failure beside the state of a run, which says failed already.
func kindBeside(kind broker.FailureKind) string {
	if kind == broker.FailureFailed || kind == broker.FailureCancelled {
		return ""
	}
	return string(kind)
}

// anotherTask stands for a task that the user may not read.
const anotherTask = "another task"

// thenTasks are the tasks of a chain that has not been queued yet.
func thenTasks(u *access.User, next []broker.FollowUp) (names []string) {
	for len(next) > 0 && len(names) < 20 {
		name := next[0].Run.Task
		if !u.Allows(access.Read, name) {
			name = anotherTask
		}
		names = append(names, name)
		if next[0].Run.Links == nil {
			return names
		}
		next = next[0].Run.Links.Then
	}
	return names
}

// join hangs the runs below their parents, and returns those whose parent was not found.
func (t *tree) join() (roots []*treeNode) {
	for _, n := range t.order {
		p := t.nodes[n.parent]
		if n.parent == "" || p == nil || p == n || t.isBelow(p, n) {
			roots = append(roots, n)
			continue
		}
		p.Children = append(p.Children, n)
	}
	return roots
}

// isBelow reports whether p descends from n: ids can be used again, so that parents may go
// round.
func (t *tree) isBelow(p, n *treeNode) bool {
	for range len(t.order) {
		if p = t.nodes[p.parent]; p == nil {
			return false
		} else if p == n {
			return true
		}
	}
	return true
}

func groupPage(ctx context.Context, r *request) (any, error) {
	v := &groupView{Queue: r.get("queue"), Group: r.get("id")}
	t := &tree{user: access.UserOf(ctx), nodes: make(map[string]*treeNode)}
	if id := r.get("run"); id != "" {
		return v, v.ofRun(ctx, r, t, broker.RunRef{ID: id, Queue: v.Queue})
	}
	if v.Group == "" {
		return nil, badRequest("the address of this page lacks run= or id=")
	}
	if err := checkRef(broker.RunRef{ID: v.Group, Queue: v.Queue}); err != nil {
		return nil, err
	}
	return v, v.ofGroup(ctx, r, t)
}

// ofRun shows the tree that a run is in.
func (v *groupView) ofRun(ctx context.Context, r *request, t *tree, id broker.RunRef) error {
	d, err := r.site.runDetail(ctx, id)
	if err != nil {
		return err
	}
	if err := readableRun(ctx, d.Task); err != nil {
		return err
	}
	ref := newRef(d.ID, d.Queue)
	v.Title, v.Of = "Relatives of run "+ref.Short, &ref
	run := d.Run
	if run == nil {
		run = &broker.TaskRun{ID: d.ID, Task: d.Task, Queue: d.Queue}
		if d.Record != nil {
			run.ParentID = d.Record.ParentID
		}
	}
	own := t.add(run, d.State, d.Failure)
	own.This = true
	if d.Record != nil {
		for _, s := range d.Record.Successors {
			own.Children = append(own.Children, &treeNode{Ref: newRef(s.ID, s.Queue), Notes: []treeNote{{Text: "it went on as this one"}}})
		}
	}
	key := cmp.Or(run.RootID, run.ParentID, d.ID)
	if err := v.search(ctx, r, t, key); err != nil {
		return err
	}
	for _, ancestor := range []struct{ id, note string }{{run.ParentID, "it has ended, or was not among those that were searched"}, {run.RootID, "the first of all"}} {
		t.addAncestor(ctx, r, ancestor.id, d.Queue, ancestor.note)
	}
	v.Roots, v.Nodes = t.join(), len(t.order)
	if len(t.order) == 1 && len(own.Children)+len(own.Notes)+len(own.Then) == 0 {
		v.Empty = &emptyView{Title: "No relative of this run was found", Text: "A run has relatives if a task queues further runs, or if it is part of a chain or group (taskrt.Then, taskrt.Group). Of those that have ended, only dead letters and runs with a record are found.", Href: "runs", Link: "Show all runs"}
	}
	return nil
}

// addAncestor adds a run that was not found: by its record, if it has one in the same queue, or
// as no more than a link. To look for it in all queues would take as long as for a run that
// there is not.
func (t *tree) addAncestor(ctx context.Context, r *request, id, queue, note string) {
	if id == "" || t.nodes[id] != nil {
		return
	}
	if records, ok := r.site.Broker.(broker.Records); ok {
		if record, err := records.Record(ctx, queue, id); err == nil {
			t.add(&broker.TaskRun{ID: id, Task: record.Task, Queue: queue, ParentID: record.ParentID}, record.State, record.Failure)
			return
		}
	}
	n := &treeNode{Ref: newRef(id, ""), Notes: []treeNote{{Text: note}}}
	t.nodes[id] = n
	t.order = append(t.order, n)
}

// search adds the runs and dead letters that name a run or group.
func (v *groupView) search(ctx context.Context, r *request, t *tree, key string) error {
	page, err := r.site.Inspector.Runs(ctx, taskrt.RunFilter{Key: key}, taskrt.PageOptions{After: r.get("after"), Max: treeRuns, Look: treeLook})
	if err != nil {
		return err
	}
	r.warnSkippedTo(ctx, page.Skipped)
	for _, i := range page.Runs {
		t.add(i.Run, i.State, i.Failure)
	}
	dead, err := r.site.Inspector.Dead(ctx, taskrt.RunFilter{Key: key}, taskrt.PageOptions{Max: treeRuns, Look: treeDead})
	if err != nil {
		return err
	}
	for _, letter := range dead.Letters {
		t.add(letter.Run, broker.StateFailed, &letter.Failure)
	}
	v.Search = fmt.Sprintf("Searched %s and %s dead letters.", runsText(int64(page.Looked)), text.Thousands(int64(dead.Looked)))
	if page.Total > int64(page.Looked) {
		v.Search = fmt.Sprintf("Searched %s of about %s, and %s of %s dead letters.", text.Thousands(int64(page.Looked)), runsText(page.Total), text.Thousands(int64(dead.Looked)), text.Thousands(dead.Total))
	}
	if t.user.Restricted() {
		v.Search = ofTheirs
	}
	if page.After != "" {
		v.Further = r.with("after", page.After)
	}
	return nil
}

// ofGroup shows the members of a group, and who gathers them.
func (v *groupView) ofGroup(ctx context.Context, r *request, t *tree) error {
	v.Title = "Group " + newRef(v.Group, "").Short
	if err := v.search(ctx, r, t, v.Group); err != nil {
		return err
	}
	group := broker.Group{ID: v.Group, Queue: v.Queue, Size: treeMembers}
	for _, n := range t.order {
		links := n.run.Links.OrZero()
		switch {
		case links.Awaits.ID == v.Group:
			v.Gathers, v.Size = n, links.Awaits.Size
			group = links.Awaits
		case links.Group == v.Group:
			ref := n.Ref
			v.Members = append(v.Members, memberRow{links.Member + 1, &ref, n.Task, n.State, n.Kind})
			if group.Queue == "" {
				group.Queue = n.run.GroupQueue()
			}
		}
	}
	v.Cut = group.Size > treeMembers || v.Size == 0
	group.Size = min(group.Size, treeMembers)
	known, err := v.addEnds(ctx, r, group)
	if err != nil {
		r.warn("The ends of the group's members cannot be read: %v", err)
	}
	v.Pending = known && v.Gathers == nil
	sortRows(v.Members, func(a, b memberRow) int { return cmp.Compare(a.Place, b.Place) })
	switch {
	case len(v.Members) > 0 || v.Gathers != nil:
	case len(r.warnings) > 0:
		v.Empty = &emptyView{Title: "The group could not be looked for", Text: "Not all of the broker could be read: see above.", Href: r.url(), Link: "Try again"}
	default:
		v.Empty = &emptyView{Title: "Nothing of this group was found", Text: "A group is known while the run that gathers it lives. " + v.Search, Href: "runs", Link: "Show all runs"}
	}
	return nil
}

// addEnds adds the members that have ended. known is false if the broker does not know the
// group any more.
func (v *groupView) addEnds(ctx context.Context, r *request, group broker.Group) (known bool, err error) {
	groups, ok := r.site.Broker.(broker.Groups)
	if !ok || group.Queue == "" {
		return false, nil
	}
	records, err := groups.Members(ctx, group)
	if errors.Is(err, broker.ErrNoRecord) || err != nil {
		if errors.Is(err, broker.ErrNoRecord) {
			err = nil
		}
		return false, err
	}
	u := access.UserOf(ctx)
	for i, record := range records {
		if record == nil || i >= treeMembers || !u.Allows(access.Read, record.Task) {
			continue
		}
		row := memberRow{Place: i + 1, Task: record.Task, State: record.State}
		if record.ID != "" {
			ref := newRef(record.ID, cmp.Or(record.Queue, group.Queue))
			row.Ref = &ref
		}
		if record.Failure != nil && record.State != broker.StateSucceeded {
			row.Kind = kindBeside(record.Failure.Kind)
		}
		at := slices.IndexFunc(v.Members, func(m memberRow) bool { return m.Place == i+1 })
		if at < 0 {
			v.Members = append(v.Members, row)
		} else if v.Members[at].State == broker.StateFailed { // a dead letter: it is the one that can be retried
			v.Members[at].Kind = cmp.Or(v.Members[at].Kind, row.Kind)
		}
	}
	return true, nil
}
