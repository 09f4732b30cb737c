package web

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	topLimits    = 5   // limits on the page of a queue
	mostLastRuns = 100 // tasks on it
)

type queueView struct {
	queueRow
	Disabled  []string
	Trimmed   int64
	Limits    []limitRow
	More      int // limits more
	Instances []instanceRow
	Known     bool // which instances are up
	Last      []lastRow
	History   *historyView
	Advice    string // if nobody takes from it
}

func (v *queueView) PageTitle() string { return "Queue " + v.Name }

// limitRow is a limit that keeps runs back.
type limitRow struct {
	Task, Values string
	Rule         string
	Used, Max    int
	Waiting      int64
}

// lastRow is how the latest run of a task ended.
type lastRow struct {
	Task    string
	Ref     runRef
	State   broker.State
	Kind    string
	Started time.Time
	Took    time.Duration
}

func queuePage(ctx context.Context, r *request) (any, error) {
	name, err := r.must("name")
	if err != nil {
		return nil, err
	}
	if err := checkQueue(name); err != nil {
		return nil, err
	}
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	if u := access.UserOf(ctx); u.Restricted() && !r.site.queuesOf(u)[name] {
		return nil, access.Check(ctx, access.Read, "")
	}
	q := f.queue(name)
	if q == nil { // it may be younger than what was read
		q = r.readQueue(ctx, name)
	}
	if q == nil {
		return nil, notFound(fmt.Errorf("queue %s has held no run yet, and no task of this program names it", name))
	}
	v := &queueView{queueRow: newQueueRow(q, f.Schedules.Now), Disabled: q.Disabled, Trimmed: q.Trimmed, Known: f.InstancesErr == nil}
	for i := range q.Limits[:min(len(q.Limits), topLimits)] {
		v.Limits = append(v.Limits, newLimitRow(&q.Limits[i]))
	}
	v.More = len(q.Limits) - len(v.Limits)
	v.addInstances(f)
	v.addLast(ctx, q)
	v.History = r.history(ctx, name, 1, r.wantedTallies(ctx))
	if v.NoConsumer {
		v.Advice = "No consumer that is up takes from this queue, so its runs wait. Start one whose tasks name the queue, or that names it in --queues."
	}
	return v, nil
}

// readQueue reads a queue that was not among those that pages share; nil if there is none.
func (r *request) readQueue(ctx context.Context, name string) *taskrt.QueueStatus {
	list, err := r.site.Inspector.Queues(ctx, name)
	if err != nil {
		r.warn("Queue %s could not be read: %v", name, err)
		return nil
	}
	r.warnSkipped(list.Skipped)
	if len(list.Queues) == 0 || isBlank(&list.Queues[0]) {
		return nil
	}
	q := queueSeenBy(&list.Queues[0], access.UserOf(ctx))
	return &q
}

// isBlank reports whether a queue has nothing that a queue which never was would not have.
func isBlank(q *taskrt.QueueStatus) bool {
	return q.Queued+q.Delayed+q.Running+q.Dead+q.Trimmed == 0 && !q.Paused && len(q.Disabled)+len(q.Last) == 0
}

func newLimitRow(l *taskrt.HeldLimit) limitRow {
	row := limitRow{Task: cmp.Or(l.Task, l.Key), Used: l.Used, Max: l.Max, Waiting: l.Waiting, Rule: fmt.Sprintf("%s at once", text.Thousands(int64(l.Max)))}
	if l.Per > 0 {
		row.Rule = fmt.Sprintf("%s started in %s", text.Thousands(int64(l.Max)), span(l.Per))
	}
	row.Values = joinValues(l.Values)
	if l.Values == nil && l.Digest != "" {
		row.Values = "one value, with the digest " + l.Digest
	}
	return row
}

func joinValues(values []json.RawMessage) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ", ")
}

func (v *queueView) addInstances(f *fleet) {
	for _, i := range f.Instances {
		if i.Serves(v.Name) {
			v.Instances = append(v.Instances, newInstanceRow(i, f.Schedules.Now))
		}
	}
}

func (v *queueView) addLast(ctx context.Context, q *taskrt.QueueStatus) {
	u := access.UserOf(ctx)
	for _, task := range slices.Sorted(maps.Keys(q.Last)) {
		l := q.Last[task]
		if len(v.Last) == mostLastRuns || !u.Allows(access.Read, task) {
			continue
		}
		row := lastRow{Task: task, Ref: newRef(l.ID, q.Queue), State: broker.StateSucceeded, Kind: string(l.Failure), Started: l.Started, Took: l.Took}
		if l.Failure != "" {
			row.State = broker.StateFailed
		}
		v.Last = append(v.Last, row)
	}
}
