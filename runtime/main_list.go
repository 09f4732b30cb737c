package runtime

import (
	"bufio"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/tick"
)

// taskInfo is a task as list prints it.
type taskInfo struct {
	Name      string         `json:"name"`
	Unknown   bool           `json:"unknown,omitempty"` // to this program: only its schedules are known
	Kind      string         `json:"kind,omitempty"`
	Queue     string         `json:"queue,omitempty"`
	Priority  string         `json:"priority,omitempty"`
	Schedule  string         `json:"schedule,omitempty"`
	Timeout   string         `json:"timeout,omitempty"`
	Attempts  int            `json:"attempts,omitempty"`
	Memory    int64          `json:"memory,omitempty"`  // bytes that a child process may have
	HeldBy    []string       `json:"held_by,omitempty"` // what this system holds child processes by
	Params    []string       `json:"params"`            // their flags
	Tags      []string       `json:"tags,omitempty"`
	Doc       string         `json:"doc,omitempty"`
	Schedules []scheduleInfo `json:"schedules,omitempty"` // made at run time

	optional []bool // of the parameters
}

// scheduleInfo is a schedule made at run time as list prints it.
type scheduleInfo struct {
	ID    string    `json:"id"`
	Queue string    `json:"queue"`
	Rule  string    `json:"rule"` // a cron expression, or "@every" and a duration
	Zone  string    `json:"zone,omitempty"`
	Since time.Time `json:"since"`
	Last  time.Time `json:"last,omitzero"` // the last tick that was queued
	Next  time.Time `json:"next,omitzero"` // in its zone
}

// listOptions are the flags of list.
type listOptions struct {
	broker string
	json   bool
	next   int
	from   time.Time
}

func (a *app) list(ctx context.Context, args []string) error {
	o := &listOptions{}
	set := a.flags("list")
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.json, "json", false, "print JSON")
	intVar(set, &o.next, "next", "print so many coming ticks of each schedule instead")
	timeVar(set, &o.from, "from", "time after which ticks are printed, such as 2006-01-02T15:04:05Z or 2006-01-02 (default now)")
	if err := a.parse(set, args, manual{
		usage: "list [flags]",
		intro: `Lists the tasks of this program, and the schedules that were made at run time if
a broker is named that processes share; or when the ones that are periodic will
run.`,
		example: "list --next 3 --from 2027-01-01",
	}); err != nil {
		return err
	}
	if given(set, "next") && o.next < 1 {
		return usagef("list", "--next is %d; at least 1 is needed", o.next)
	}
	if given(set, "from") && o.next == 0 {
		o.next = 1
	}
	if o.from.IsZero() {
		o.from = time.Now()
	}
	if o.next > 0 {
		return a.listTicks(ctx, o)
	}
	return a.listTasks(ctx, o)
}

// listTasks prints the tasks, also when the broker cannot be asked for what was
// made at run time.
func (a *app) listTasks(ctx context.Context, o *listOptions) error {
	if o.json {
		made, err := a.schedules(ctx, o.broker)
		if printErr := a.printJSON(a.taskInfos(made)); printErr != nil {
			return printErr
		}
		return err
	}
	if err := a.printTasks(); err != nil {
		return err
	}
	made, brokerErr := a.schedules(ctx, o.broker)
	if len(made) == 0 {
		return brokerErr
	}
	fmt.Fprint(a.stdout, "\nMade at run time:\n\n")
	w := a.table()
	fmt.Fprintln(w, "ID\tTASK\tQUEUE\tSCHEDULE\tNEXT")
	for _, s := range made {
		next := "-"
		if !s.Next.IsZero() {
			next = s.Next.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(s.ID), orDash(shown(s.Task)), shown(s.Queue), shown(ruleText(s.Spec, s.Zone)), next)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return brokerErr
}

// printTasks prints the tasks of the program.
func (a *app) printTasks() error {
	w := a.table()
	fmt.Fprintln(w, "TASK\tKIND\tQUEUE\tSCHEDULE\tTIMEOUT\tATTEMPTS\tPARAMETERS")
	for _, i := range a.taskInfos(nil) {
		params := slices.Clone(i.Params)
		for p := range params {
			if i.optional[p] {
				params[p] = "[" + params[p] + "]"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", i.Name, i.Kind, i.Queue, orDash(i.Schedule), i.Timeout, i.Attempts, strings.Join(params, " "))
	}
	return w.Flush()
}

// taskInfos returns the tasks of the program with the schedules made for them at
// run time, and behind them those that only the schedules know.
func (a *app) taskInfos(made []ScheduledInfo) []taskInfo {
	infos := make([]taskInfo, 0, len(a.tasks.list))
	place := make(map[string]int)
	for _, t := range a.tasks.list {
		for _, name := range append([]string{t.spec.Name}, t.spec.Aliases...) {
			place[name] = len(infos)
		}
		infos = append(infos, t.info())
	}
	for _, s := range made {
		i, known := place[s.Task]
		if !known {
			i = len(infos)
			place[s.Task] = i
			infos = append(infos, taskInfo{Name: s.Task, Unknown: true, Params: []string{}})
		}
		infos[i].Schedules = append(infos[i].Schedules, scheduleInfo{s.ID, s.Queue, s.Spec, s.Zone, s.Since.UTC(), s.Last.UTC(), s.Next})
	}
	return infos
}

// schedules returns the schedules made at run time, none with a broker that
// lives in one process.
func (a *app) schedules(ctx context.Context, url string) ([]ScheduledInfo, error) {
	if isEmbedded(url) {
		return nil, nil
	}
	b, closeBroker, err := openBroker(ctx, url, a.skipLogger())
	if err != nil {
		return nil, fmt.Errorf("list schedules made at run time: %w", err)
	}
	defer closeBroker()
	if _, ok := b.(broker.ScheduleStore); !ok {
		return nil, nil
	}
	return Schedules(WithClient(ctx, NewClient(b, ClientConfig{})))
}

// listedTick is one coming run of a schedule as list prints it.
type listedTick struct {
	Task  string    `json:"task"`
	At    time.Time `json:"at"`              // in the schedule's zone, jitter included
	ID    string    `json:"id,omitempty"`    // of a schedule made at run time
	Queue string    `json:"queue,omitempty"` // of a schedule made at run time
}

// maxTicks is how many ticks are printed at most.
const maxTicks = 1_000_000

// listTicks prints the next ticks of each schedule, in their order, also when
// the broker cannot be asked for what was made at run time.
func (a *app) listTicks(ctx context.Context, o *listOptions) error {
	made, brokerErr := a.schedules(ctx, o.broker)
	if n := max(len(a.tasks.list)+len(made), 1); o.next > maxTicks/n {
		return usagef("list", "--next is %d; of %s at most %d are printed", o.next, count(n, "schedule"), maxTicks/n)
	}
	ticks := []listedTick{}
	for _, t := range a.tasks.list {
		rule := t.spec.Schedule.rule()
		table, err := rule.Timetable()
		if err != nil {
			return fmt.Errorf("list ticks of task %s: %w", t.spec.Name, err)
		}
		if table == nil {
			continue
		}
		for _, at := range nextTicks(table, o.next, o.from) {
			ticks = append(ticks, listedTick{Task: t.spec.Name, At: rule.At(t.spec.Name, at)})
		}
	}
	for _, s := range made {
		table, err := tick.Parse(s.Spec, s.Zone)
		if err != nil {
			continue // a rule of another version: list shows it, without a next tick
		}
		for _, at := range nextTicks(table, o.next, tick.Later(o.from, s.Since)) {
			ticks = append(ticks, listedTick{s.Task, at, s.ID, s.Queue})
		}
	}
	slices.SortStableFunc(ticks, func(a, b listedTick) int { return a.At.Compare(b.At) })
	if err := a.printTicks(ticks, o.json); err != nil {
		return err
	}
	return brokerErr
}

// nextTicks returns the first n ticks after an instant.
func nextTicks(table tick.Timetable, n int, from time.Time) (ticks []time.Time) {
	for at, ok := table.Next(from); ok && len(ticks) < n; at, ok = table.Next(at) {
		ticks = append(ticks, at)
	}
	return ticks
}

func (a *app) printTicks(ticks []listedTick, asJSON bool) error {
	if asJSON {
		return a.printJSON(ticks)
	}
	w := bufio.NewWriter(a.stdout)
	for _, t := range ticks {
		fmt.Fprintf(w, "%s  %s", t.At.Format(time.RFC3339), orDash(shown(t.Task)))
		if t.ID != "" {
			fmt.Fprintf(w, "  %s (queue %s)", shown(t.ID), shown(t.Queue))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// ruleText is a rule as people read it.
func ruleText(rule, zone string) string {
	if zone != "" {
		return fmt.Sprintf("%s (%s)", rule, zone)
	}
	return rule
}

func (t *Task) info() taskInfo {
	s := t.spec
	i := taskInfo{
		Name: s.Name, Kind: s.Kind.String(), Queue: s.Queue, Priority: s.Priority.String(),
		Timeout: s.Timeout.String(), Attempts: s.Retry.Attempts, Tags: s.Tags, Doc: strings.TrimSpace(s.Doc), Params: []string{},
	}
	if s.Kind == CPU {
		i.Memory, i.HeldBy = s.Memory, subprocess.Capabilities()
	}
	if i.Schedule = ruleText(s.Schedule.Cron, s.Schedule.Zone); s.Schedule.Every > 0 {
		i.Schedule = "every " + s.Schedule.Every.String()
	}
	for _, p := range t.params() {
		i.Params, i.optional = append(i.Params, "--"+p.flag), append(i.optional, p.optional)
	}
	return i
}
