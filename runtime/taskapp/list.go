package taskapp

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// taskInfo is a task in the JSON of list.
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
	HeldBy    []string       `json:"held_by,omitempty"` // how this system bounds child processes
	Params    []string       `json:"params"`            // their flags
	Tags      []string       `json:"tags,omitempty"`
	Doc       string         `json:"doc,omitempty"`
	Schedules []scheduleInfo `json:"schedules,omitempty"` // made at run time

	optional []bool // of the parameters
}

// scheduleInfo is a dynamic schedule in the JSON of list.
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

func (c *commandLine) listCommand() *cobra.Command {
	o := &listOptions{}
	cmd := c.command(manual{
		use: "list", short: "list the tasks",
		long: `Lists the tasks of this program, and the schedules that were made at run time if
a broker is named that processes share; or when the ones that are periodic will
run.`,
		example: "list --next 3 --from 2027-01-01",
	}, c.noWords, func(ctx context.Context, cmd *cobra.Command, _ []string) error {
		return c.list(ctx, o, cmd.Flags())
	})
	set := cmd.Flags()
	set.StringVar(&o.broker, "broker", "", "URL of the broker")
	set.BoolVar(&o.json, "json", false, "print JSON")
	intVar(set, &o.next, "next", "print so many coming ticks of each schedule instead")
	timeVar(set, &o.from, "from", "time after which ticks are printed, such as 2006-01-02T15:04:05Z or 2006-01-02 (default now)")
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) list(ctx context.Context, o *listOptions, given *pflag.FlagSet) error {
	if given.Changed("next") && o.next < 1 {
		return usagef("list", "--next is %d; at least 1 is needed", o.next)
	}
	if given.Changed("from") && o.next == 0 {
		o.next = 1
	}
	if o.from.IsZero() {
		o.from = time.Now()
	}
	if o.next > 0 {
		return c.listTicks(ctx, o)
	}
	return c.listTasks(ctx, o)
}

// listTasks prints the tasks. If the broker cannot list the dynamic schedules, it prints
// the tasks all the same and returns the error.
func (c *commandLine) listTasks(ctx context.Context, o *listOptions) error {
	if o.json {
		made, err := c.schedules(ctx, o.broker)
		if printErr := c.printJSON(c.taskInfos(made)); printErr != nil {
			return printErr
		}
		return err
	}
	if err := c.printTasks(); err != nil {
		return err
	}
	made, brokerErr := c.schedules(ctx, o.broker)
	if len(made) == 0 {
		return brokerErr
	}
	fmt.Fprint(c.stdout, "\nMade at run time:\n\n")
	w := c.table()
	fmt.Fprintln(w, "ID\tTASK\tQUEUE\tSCHEDULE\tNEXT")
	for _, s := range made {
		next := "-"
		if !s.Next.IsZero() {
			next = s.Next.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", text.Printable(s.ID), orDash(text.Printable(s.Task)), text.Printable(s.Queue), text.Printable(ruleText(s.Spec, s.Zone)), next)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return brokerErr
}

// printTasks prints the tasks of the program.
func (c *commandLine) printTasks() error {
	w := c.table()
	fmt.Fprintln(w, "TASK\tKIND\tQUEUE\tSCHEDULE\tTIMEOUT\tATTEMPTS\tPARAMETERS")
	for _, i := range c.taskInfos(nil) {
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

// taskInfos returns the tasks of the program with their dynamic schedules. Behind them
// stand the tasks that only schedules name.
func (c *commandLine) taskInfos(made []taskrt.ScheduledInfo) []taskInfo {
	infos := make([]taskInfo, 0, len(c.tasks.list))
	place := make(map[string]int)
	for _, t := range c.tasks.list {
		for _, name := range t.names() {
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

// schedules returns the dynamic schedules. The embedded broker has none in a fresh process.
func (c *commandLine) schedules(ctx context.Context, url string) ([]taskrt.ScheduledInfo, error) {
	if c.isEmbedded(url) {
		return nil, nil
	}
	b, closeBroker, err := c.openBroker(ctx, url, c.skipLogger())
	if err != nil {
		return nil, fmt.Errorf("list schedules made at run time: %w", err)
	}
	defer closeBroker()
	if _, ok := b.(broker.ScheduleStore); !ok {
		return nil, nil
	}
	return taskrt.Schedules(taskrt.WithClient(ctx, c.client(b)))
}

// tick is a coming run of a schedule in the JSON of list.
type tick struct {
	Task  string    `json:"task"`
	At    time.Time `json:"at"`              // in the schedule's zone, jitter included
	ID    string    `json:"id,omitempty"`    // of a schedule made at run time
	Queue string    `json:"queue,omitempty"` // of a schedule made at run time
}

// maxTicks is how many ticks are printed at most.
const maxTicks = 1_000_000

// listTicks prints the next ticks of each schedule, in their order. If the broker cannot
// list the dynamic schedules, it prints the others and returns the error.
func (c *commandLine) listTicks(ctx context.Context, o *listOptions) error {
	made, brokerErr := c.schedules(ctx, o.broker)
	if n := max(len(c.tasks.list)+len(made), 1); o.next > maxTicks/n {
		return usagef("list", "--next is %d; of %s at most %d are printed", o.next, text.Count(n, "schedule"), maxTicks/n)
	}
	ticks := []tick{}
	for _, t := range c.tasks.list {
		all, err := t.Ticks(o.from)
		if err != nil {
			return err
		}
		for _, at := range firstTicks(all, o.next) {
			ticks = append(ticks, tick{Task: t.Name(), At: at})
		}
	}
	for _, s := range made {
		all, err := s.Ticks(o.from)
		if err != nil {
			continue // a rule of another version: list shows it, without a next tick
		}
		for _, at := range firstTicks(all, o.next) {
			ticks = append(ticks, tick{s.Task, at, s.ID, s.Queue})
		}
	}
	slices.SortStableFunc(ticks, func(a, b tick) int { return a.At.Compare(b.At) })
	if err := c.printTicks(ticks, o.json); err != nil {
		return err
	}
	return brokerErr
}

func firstTicks(all iter.Seq[time.Time], n int) (ticks []time.Time) {
	for at := range all {
		if ticks = append(ticks, at); len(ticks) == n {
			break
		}
	}
	return ticks
}

func (c *commandLine) printTicks(ticks []tick, asJSON bool) error {
	if asJSON {
		return c.printJSON(ticks)
	}
	w := bufio.NewWriter(c.stdout)
	for _, t := range ticks {
		fmt.Fprintf(w, "%s  %s", t.At.Format(time.RFC3339), orDash(text.Printable(t.Task)))
		if t.ID != "" {
			fmt.Fprintf(w, "  %s (queue %s)", text.Printable(t.ID), text.Printable(t.Queue))
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

func (t *task) info() taskInfo {
	s := t.Spec()
	i := taskInfo{
		Name: s.Name, Kind: s.Kind.String(), Queue: s.Queue, Priority: s.Priority.String(),
		Timeout: s.Timeout.String(), Attempts: s.Retry.Attempts, Tags: s.Tags, Doc: strings.TrimSpace(s.Doc), Params: []string{},
	}
	if s.Kind == taskrt.CPU {
		i.Memory, i.HeldBy = s.Memory, subprocess.Capabilities()
	}
	if i.Schedule = ruleText(s.Schedule.Cron, s.Schedule.Zone); s.Schedule.Every > 0 {
		i.Schedule = "every " + s.Schedule.Every.String()
	}
	for _, p := range t.params() {
		i.Params, i.optional = append(i.Params, "--"+p.flag), append(i.optional, p.Optional)
	}
	return i
}
