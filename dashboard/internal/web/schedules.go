package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/cron"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// schedulesOnPage is how many schedules one page has.
const schedulesOnPage = 50

// shownTicks is how many coming ticks a schedule shows.
const shownTicks = 5

type schedulesView struct {
	Rows    []scheduleRow
	Known   int
	Overdue int
	Filter  string
	Only    string
	Tabs    []sortLink
	Pager   *pagerView
	Empty   *emptyView
}

// scheduleRow is a schedule in a table.
type scheduleRow struct {
	taskrt.ScheduleStatus
	Words    string
	Rule     string
	Ticks    []tickText
	Changes  []string // what clock changes of the next year do
	Known    bool     // its task is one of the program's
	LastRef  *runRef
	LastRun  string // how the last run ended
	LastBad  bool
	LastTook time.Duration
	LastAt   time.Time
	NoRule   bool // the rule is of another version
}

// tickText is a coming tick in the zone of its schedule.
type tickText struct {
	At    time.Time
	Local string
}

func schedulesPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	r.warnSkippedTo(ctx, f.Schedules.Skipped)
	u := access.UserOf(ctx)
	v := &schedulesView{Filter: cmp.Or(r.get("name"), r.get("task")), Only: r.get("only")}
	var found []taskrt.ScheduleStatus
	for _, s := range f.Schedules.Schedules {
		if !u.Allows(access.Read, s.Task) {
			continue
		}
		v.Known++
		if s.Overdue {
			v.Overdue++
		}
		if v.matches(&s) {
			found = append(found, s)
		}
	}
	sortRows(found, func(a, b taskrt.ScheduleStatus) int { return boolFirst(a.Overdue, b.Overdue) })
	for _, only := range []struct{ name, title string }{{"", "All"}, {"overdue", "Overdue " + strconv.Itoa(v.Overdue)}, {"made", "Made at run time"}, {"disabled", "Disabled"}} {
		v.Tabs = append(v.Tabs, sortLink{only.title, r.with("only", only.name, "from", ""), v.Only == only.name})
	}
	v.Pager = cutPage(r, &found, schedulesOnPage, "Schedules")
	for i := range found {
		v.Rows = append(v.Rows, r.scheduleRow(f, found[i]))
	}
	switch {
	case v.Known == 0:
		v.Empty = &emptyView{Title: "Nothing has a schedule", Text: "A task gets one by a comment, such as //task:every 5m or //task:cron \"0 3 * * *\"; a program makes one at run time by taskrt.Schedule.", Href: "tasks", Link: "Show the tasks"}
	case len(v.Rows) == 0:
		v.Empty = &emptyView{Title: "No schedule matches", Text: "None of the " + strconv.Itoa(v.Known) + " schedules does.", Href: "schedules", Link: "Show all schedules"}
	}
	return v, nil
}

// boolFirst orders what has a property before what has not.
func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func (v *schedulesView) matches(s *taskrt.ScheduleStatus) bool {
	switch v.Only {
	case "overdue":
		if !s.Overdue {
			return false
		}
	case "made":
		if s.ID == "" {
			return false
		}
	case "disabled":
		if !s.Disabled {
			return false
		}
	}
	return strings.Contains(strings.ToLower(s.Task+"\n"+s.ID+"\n"+s.Queue), strings.ToLower(v.Filter))
}

func (r *request) scheduleRow(f *fleet, s taskrt.ScheduleStatus) scheduleRow {
	row := scheduleRow{ScheduleStatus: s, Words: ruleWords(s.Spec, s.Zone), Rule: s.Spec}
	if s.Zone != "" {
		row.Rule += " (" + s.Zone + ")"
	}
	task, known := r.site.byName(s.Task)
	row.Known = known
	if s.ID == "" && known {
		row.Words = timingWords(task.Spec().Schedule)
	}
	now := f.Schedules.Now
	ticks, err := r.ticksOf(s, task, known, now)
	if err != nil {
		row.NoRule = true
	} else {
		for at := range ticks {
			row.Ticks = append(row.Ticks, tickText{at, localText(at, s.Zone)})
			if len(row.Ticks) == shownTicks {
				break
			}
		}
	}
	row.Changes = clockChanges(s, now)
	if q := f.queue(s.Queue); q != nil {
		if last, found := q.Last[s.Task]; found {
			row.addLast(last)
		}
	}
	return row
}

// ticksOf returns the coming ticks of a schedule.
func (r *request) ticksOf(s taskrt.ScheduleStatus, t taskrt.Task, known bool, after time.Time) (iter.Seq[time.Time], error) {
	if s.ID == "" && known {
		return t.Ticks(after)
	}
	return taskrt.ScheduledInfo{ID: s.ID, Spec: s.Spec, Zone: s.Zone}.Ticks(after)
}

// localText is an instant in the zone of a schedule, with its offset.
func localText(at time.Time, zone string) string {
	loc, err := time.LoadLocation(zone)
	if err != nil || zone == "" {
		return at.UTC().Format("Mon 2006-01-02 15:04:05 UTC")
	}
	return at.In(loc).Format("Mon 2006-01-02 15:04:05 -07:00 MST")
}

// clockChanges says what the clock changes of the next year do to a schedule.
func clockChanges(s taskrt.ScheduleStatus, now time.Time) (texts []string) {
	loc, err := time.LoadLocation(s.Zone)
	if s.Zone == "" || s.Zone == "UTC" || err != nil {
		return nil
	}
	schedule, err := cron.Parse(s.Spec)
	if err != nil {
		return nil
	}
	for _, year := range []int{now.In(loc).Year(), now.In(loc).Year() + 1} {
		for _, change := range schedule.ClockChanges(year, loc) {
			if change.At.After(now) && change.At.Before(now.AddDate(1, 0, 0)) {
				texts = append(texts, change.String())
			}
		}
	}
	return texts
}

func (row *scheduleRow) addLast(last broker.LastRun) {
	ref := newRef(last.ID, row.Queue)
	row.LastRef, row.LastTook, row.LastAt, row.LastRun = &ref, last.Took, last.Started, "succeeded"
	if last.Failure != "" {
		row.LastRun, row.LastBad = string(last.Failure), true
	}
}

// byName returns a task of the program by one of its names.
func (s *site) byName(name string) (taskrt.Task, bool) {
	if t := s.task(name); t != nil {
		return *t, true
	}
	return taskrt.Task{}, false
}

// scheduledRun returns the task and the parameters that a schedule queues.
func (s *site) scheduledRun(ctx context.Context, task, queue, id string) (t taskrt.Task, payload []byte, err error) {
	t, known := s.byName(task)
	if !known {
		return t, nil, notFound(fmt.Errorf("this program has no task %.100q, so it cannot queue a run of it", task))
	}
	if id == "" {
		payload, err = t.EncodeParams(t.NewParams())
		return t, payload, err
	}
	store, ok := s.Broker.(broker.ScheduleStore)
	if !ok {
		return t, nil, notFound(errors.New("this broker keeps no schedules"))
	}
	schedules, err := store.Schedules(ctx, queue)
	if err != nil {
		return t, nil, err
	}
	for _, made := range schedules {
		if made.ID == id && made.Run.Queue == queue && made.Run.Task == task {
			return t, made.Run.Payload, nil
		}
	}
	return t, nil, notFound(fmt.Errorf("queue %s has no schedule %s of task %s any more", queue, id, task))
}
