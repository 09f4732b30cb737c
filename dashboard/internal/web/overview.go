package web

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	topQueues   = 8                // queues on the overview
	lastDead    = 6                // dead letters on it
	mostAlerts  = 6                // of a kind
	lateFor     = 5 * time.Minute  // a run that is due for so long is late
	seenLately  = 20 * time.Second // who is up announces itself each 10
	deadLookAge = 3 * time.Second
)

type overviewView struct {
	Total      queueRow
	Known      int // queues
	Consumers  string
	Schedulers string
	Alerts     []alert
	Queues     []queueRow
	Dead       []deadRow
	DeadErr    string
	History    *historyView
	Empty      *emptyView
}

// alert is something that needs a person.
type alert struct {
	Class, Badge string
	Subject      string
	Href         string
	Text         string
}

// deadRow is a dead letter in a table.
type deadRow struct {
	Ref     runRef
	Task    string
	Queue   string
	Kind    string
	Message string
	At      time.Time
}

func overviewPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	v := &overviewView{Known: len(f.Queues.Queues)}
	for i := range f.Queues.Queues {
		row := newQueueRow(&f.Queues.Queues[i], f.Schedules.Now)
		v.Total.add(&row)
		v.Queues = append(v.Queues, row)
	}
	v.countInstances(f)
	v.addAlerts(f)
	sortRows(v.Queues, queueSorts[0].compare)
	v.Queues = v.Queues[:min(len(v.Queues), topQueues)]
	v.History = r.history(ctx, "", v.Known, r.wantedTallies(ctx))
	v.addLateFailures()
	v.addDead(ctx, r)
	if v.Known == 0 {
		v.Empty = &emptyView{Title: "Nothing was queued yet", Text: "Once a program queues a run it shows here. Start a consumer that executes runs, such as:", Code: r.site.Name + " serve", Href: "tasks", Link: "Queue a run by a form"}
	}
	return v, nil
}

// wantedTallies returns a filter of the tallies that the user may see; nil: all.
func (r *request) wantedTallies(ctx context.Context) func(*broker.Tally) bool {
	u := access.UserOf(ctx)
	if !u.Restricted() {
		return nil
	}
	return func(t *broker.Tally) bool { return u.Allows(access.Read, t.Task) }
}

func (v *overviewView) countInstances(f *fleet) {
	if f.InstancesErr != nil {
		v.Consumers, v.Schedulers = "?", "?"
		return
	}
	var n [2]int
	for _, i := range f.Instances {
		if i.Role == broker.RoleConsumer {
			n[0]++
		} else {
			n[1]++
		}
	}
	v.Consumers, v.Schedulers = strconv.Itoa(n[0]), strconv.Itoa(n[1])
}

// addAlerts adds what needs a person, the worst first.
func (v *overviewView) addAlerts(f *fleet) {
	var late, paused []alert
	for i := range v.Queues {
		q := &v.Queues[i]
		href, _ := link("queue", "name", q.Name)
		switch {
		case q.NoConsumer:
			v.Alerts = append(v.Alerts, alert{"s-bad", "no consumer", "queue " + q.Name, href,
				fmt.Sprintf("%s %s, and no consumer takes from it.", number64(q.Queued+q.Delayed+q.Running), plural(q.Queued+q.Delayed+q.Running, "run waits", "runs wait"))})
		case q.Paused && q.Queued > 0:
			paused = append(paused, alert{"s-paused", "paused", "queue " + q.Name, href, number64(q.Queued) + " due " + plural(q.Queued, "run waits", "runs wait") + " until it is resumed."})
		case q.Oldest > lateFor:
			text := "The oldest run is due for " + span(q.Oldest) + "."
			if q.Held == q.Queued {
				text += " Limits hold all back that wait."
			}
			late = append(late, alert{"s-late", "late", "queue " + q.Name, href, text})
		}
	}
	v.Alerts = cutAlerts(v.Alerts, "queues")
	var overdue []alert
	for i := range f.Schedules.Schedules {
		if s := &f.Schedules.Schedules[i]; s.Overdue {
			overdue = append(overdue, overdueAlert(s, f.Schedules.Now))
		}
	}
	v.Alerts = append(v.Alerts, cutAlerts(overdue, "schedules")...)
	v.Alerts = append(v.Alerts, cutAlerts(late, "queues")...)
	v.Alerts = append(v.Alerts, cutAlerts(paused, "queues")...)
	for _, i := range f.Instances {
		if since := f.Schedules.Now.Sub(i.Seen); since > seenLately {
			v.Alerts = append(v.Alerts, alert{"s-late", "silent", fmt.Sprintf("%s %s:%d", i.Role, i.Host, i.PID), "consumers",
				"It announced itself last " + span(since) + " ago, and may have died."})
		}
	}
}

func overdueAlert(s *taskrt.ScheduleStatus, now time.Time) alert {
	a := alert{"s-bad", "overdue", "schedule of " + s.Task, "schedules", s.Why + "."}
	if s.ID != "" {
		a.Subject = "schedule " + s.ID
	}
	if d := now.Sub(s.Next); !s.Next.IsZero() && d > 0 {
		a.Text = "Its tick is late by " + span(d) + ": " + a.Text
	}
	return a
}

// cutAlerts bounds the alerts of a kind.
func cutAlerts(all []alert, of string) []alert {
	if more := len(all) - mostAlerts; more > 0 {
		last := all[mostAlerts]
		last.Subject, last.Href, last.Text = fmt.Sprintf("%d %s more", more, of), of, "They are on the page of "+of+"."
		all = append(all[:mostAlerts], last)
	}
	return all
}

// addLateFailures adds that many attempts fail lately.
func (v *overviewView) addLateFailures() {
	l := v.History.Lately
	if l == nil || l.Dead == 0 {
		return
	}
	v.Alerts = append(v.Alerts, alert{"s-failed", "failing", number64(l.Dead) + " " + plural(l.Dead, "dead letter", "dead letters"), "dead",
		fmt.Sprintf("In the last %d minutes %s became dead letters, and %s succeeded.", l.Minutes, runsText(l.Dead), runsText(l.Succeeded))})
}

func number64(n int64) string { return text.Thousands(n) }

func runsText(n int64) string { return text.Thousands(n) + " " + plural(n, "run", "runs") }

// addDead adds the newest dead letters.
func (v *overviewView) addDead(ctx context.Context, r *request) {
	seen := r.site.looks.dead.Get(ctx)
	if seen.Err != nil {
		v.DeadErr = seen.Err.Error()
	}
	if seen.Value == nil {
		return
	}
	u := access.UserOf(ctx)
	for _, l := range seen.Value.Letters {
		if l.Run != nil && !u.Allows(access.Read, l.Run.Task) || l.Run == nil && u.Restricted() {
			continue
		}
		v.Dead = append(v.Dead, newDeadRow(l))
	}
}

func newDeadRow(l taskrt.DeadLetter) deadRow {
	row := deadRow{Ref: newRef(l.ID, l.Queue), Queue: l.Queue, Kind: string(l.Failure.Kind), Message: l.Failure.Message, At: l.At}
	if l.Run != nil {
		row.Task = l.Run.Task
	}
	return row
}
