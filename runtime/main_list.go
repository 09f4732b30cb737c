package runtime

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// taskInfo is a task as list prints it.
type taskInfo struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Queue    string   `json:"queue"`
	Priority string   `json:"priority"`
	Schedule string   `json:"schedule,omitempty"`
	Timeout  string   `json:"timeout"`
	Attempts int      `json:"attempts"`
	Memory   int64    `json:"memory,omitempty"`  // bytes that a child process may have
	HeldBy   []string `json:"held_by,omitempty"` // what this system holds child processes by
	Params   []string `json:"params"`
	Tags     []string `json:"tags,omitempty"`
	Doc      string   `json:"doc,omitempty"`
}

func (a *app) list(_ context.Context, args []string) error {
	set := a.flags("list")
	asJSON := set.Bool("json", false, "print JSON")
	next := set.Int("next", 0, "print so many coming ticks of each periodic task instead")
	var from time.Time
	set.TextVar(&from, "from", time.Time{}, "time from which ticks are printed, such as 2006-01-02T15:04:05Z (default now)")
	if err := a.parse(set, args, manual{
		usage: "list [flags]", intro: "Lists the tasks of this program, or when the periodic ones will run.", example: "list --next 3",
	}); err != nil {
		return err
	}
	if *next < 0 {
		return usagef("list", "--next %d: a number of ticks cannot be negative", *next)
	}
	if *next > 0 {
		if from.IsZero() {
			from = time.Now()
		}
		return a.listTicks(*next, from, *asJSON)
	}
	infos := make([]taskInfo, 0, len(a.tasks.list))
	for _, t := range a.tasks.list {
		infos = append(infos, t.info())
	}
	if *asJSON {
		return a.printJSON(infos)
	}
	w := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TASK\tKIND\tQUEUE\tSCHEDULE\tTIMEOUT\tATTEMPTS\tPARAMETERS")
	for _, i := range infos {
		schedule := i.Schedule
		if schedule == "" {
			schedule = "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", i.Name, i.Kind, i.Queue, schedule, i.Timeout, i.Attempts, strings.Join(i.Params, " "))
	}
	return w.Flush()
}

// tick is one coming run of a periodic task as list prints it.
type tick struct {
	Task string    `json:"task"`
	At   time.Time `json:"at"` // in the schedule's zone, jitter included
}

// listTicks prints the next n ticks of each periodic task, in their order.
func (a *app) listTicks(n int, from time.Time, asJSON bool) error {
	ticks := []tick{}
	for _, t := range a.tasks.list {
		table, err := t.spec.Schedule.timetable()
		if err != nil {
			return fmt.Errorf("list ticks of task %s: %w", t.spec.Name, err)
		}
		if table == nil {
			continue
		}
		e := &entry{spec: t.spec, table: table}
		at := from
		for range n {
			next, ok := table.next(at)
			if !ok {
				break
			}
			at = next
			ticks = append(ticks, tick{t.spec.Name, e.at(next)})
		}
	}
	slices.SortStableFunc(ticks, func(a, b tick) int { return a.At.Compare(b.At) })
	if asJSON {
		return a.printJSON(ticks)
	}
	for _, t := range ticks {
		fmt.Fprintf(a.stdout, "%s  %s\n", t.At.Format(time.RFC3339), t.Task)
	}
	return nil
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
	switch c := s.Schedule; {
	case c.Every > 0:
		i.Schedule = "every " + c.Every.String()
	case c.Cron != "" && c.Zone != "":
		i.Schedule = fmt.Sprintf("%s (%s)", c.Cron, c.Zone)
	case c.Cron != "":
		i.Schedule = c.Cron
	}
	for _, f := range t.paramFlags(flag.NewFlagSet("", flag.ContinueOnError), t.newParams()) {
		i.Params = append(i.Params, "--"+f.name)
	}
	return i
}
