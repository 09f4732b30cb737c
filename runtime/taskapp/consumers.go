package taskapp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/text"
)

// consumersView is the JSON of consumers.
type consumersView struct {
	Consumers  []instanceView `json:"consumers"`
	Schedulers []instanceView `json:"schedulers"`
}

// instanceView is a consumer or a scheduler that is up.
type instanceView struct {
	ID       string       `json:"id"`
	Host     string       `json:"host"`
	PID      int          `json:"pid"`
	Version  string       `json:"version,omitempty"` // of its program
	Started  time.Time    `json:"started"`
	Seen     time.Time    `json:"seen"` // when it announced itself last
	Stopping bool         `json:"stopping"`
	Queues   []servedView `json:"queues"`
	More     int          `json:"more_queues,omitempty"`
	Address  string       `json:"address,omitempty"` // where it serves metrics
	Scraped  *time.Time   `json:"scraped,omitempty"` // since when these are read regularly

	Session  string     `json:"session,omitempty"`
	IO       *slotsView `json:"io,omitempty"` // of a consumer
	CPU      *slotsView `json:"cpu,omitempty"`
	Children *int       `json:"children,omitempty"` // processes
}

// servedView is a queue that an instance serves.
type servedView struct {
	Queue  string `json:"queue"`
	Weight int    `json:"weight"`
}

type slotsView struct {
	Busy  int `json:"busy"`
	Total int `json:"total"`
}

func newInstanceView(i *broker.Instance) instanceView {
	v := instanceView{
		ID: i.ID, Host: i.Host, PID: i.PID, Version: i.Version, Started: utc(i.Started), Seen: utc(i.Seen), Stopping: i.Stopping,
		Queues: []servedView{}, More: i.More, Address: i.Address, Session: i.Session,
	}
	for _, name := range slices.Sorted(maps.Keys(i.Queues)) {
		v.Queues = append(v.Queues, servedView{name, i.Queues[name]})
	}
	if !i.Scraped.IsZero() {
		v.Scraped = new(utc(i.Scraped))
	}
	if i.Role == broker.RoleConsumer {
		io, cpu := i.Slots[broker.IO], i.Slots[broker.CPU]
		v.IO, v.CPU, v.Children = &slotsView{io.Busy, io.Total}, &slotsView{cpu.Busy, cpu.Total}, &i.Children
	}
	return v
}

func (c *commandLine) consumersCommand() *cobra.Command {
	o := &controlOptions{}
	cmd := c.command(manual{
		use: "consumers", short: "list the consumers and schedulers that are up",
		long: `Lists the consumers and schedulers that are up: where, since when, of which version,
which queues they serve, and of consumers how many slots of each kind are busy. One
that died is listed for 30 seconds after it was seen last.`,
		example: "consumers --queue mail",
	}, c.noWords, func(ctx context.Context, _ *cobra.Command, _ []string) error { return c.consumers(ctx, o) })
	o.addTo(cmd.Flags())
	textVar(cmd.Flags(), &o.queue, "queue", "only those that serve this queue")
	completeFlags(cmd, c.flagCompletions())
	return cmd
}

func (c *commandLine) consumers(ctx context.Context, o *controlOptions) error {
	ctl, closeBroker, err := c.openControl(ctx, "consumers", o)
	if err != nil {
		return err
	}
	defer closeBroker()
	instances, err := ctl.inspector.Instances(ctx)
	if err != nil {
		return err
	}
	view := consumersView{[]instanceView{}, []instanceView{}}
	for _, i := range instances {
		switch {
		case o.queue != "" && !i.Serves(o.queue):
		case i.Role == broker.RoleScheduler:
			view.Schedulers = append(view.Schedulers, newInstanceView(i))
		default:
			view.Consumers = append(view.Consumers, newInstanceView(i))
		}
	}
	if o.json {
		return cmp.Or(c.printJSON(view), ctl.incomplete())
	}
	return cmp.Or(ctl.printConsumers(&view), ctl.incomplete())
}

func (c *control) printConsumers(view *consumersView) error {
	if len(view.Consumers)+len(view.Schedulers) == 0 {
		_, err := fmt.Fprintf(c.line.stdout, "No consumer and no scheduler is up for %s. %s serve starts both.\n", c.places(mostNamed), c.line.name())
		return err
	}
	w := c.line.table()
	fmt.Fprintln(w, "ROLE\tHOST\tPID\tVERSION\tUP\tSEEN\tIO\tCPU\tCHILDREN\tQUEUES\tNOTES")
	for _, v := range view.Consumers {
		fmt.Fprintf(w, "consumer\t%s\t%d/%d\t%d/%d\t%d\t%s\n", v.start(), v.IO.Busy, v.IO.Total, v.CPU.Busy, v.CPU.Total, *v.Children, v.end())
	}
	for _, v := range view.Schedulers {
		fmt.Fprintf(w, "scheduler\t%s\t-\t-\t-\t%s\n", v.start(), v.end())
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(c.line.stdout, "%s, %s. IO and CPU are busy slots of all.\n",
		text.Count(len(view.Consumers), "consumer"), text.Count(len(view.Schedulers), "scheduler"))
	return err
}

// start is the first columns of an instance.
func (v *instanceView) start() string {
	return strings.Join([]string{
		text.Printable(v.Host), fmt.Sprint(v.PID), orDash(brief(v.Version, 20)), age(v.Started), age(v.Seen) + " ago",
	}, "\t")
}

// mostQueues is how many queues of an instance are named for people.
const mostQueues = 8

// end is the last columns of an instance.
func (v *instanceView) end() string {
	var queues []string
	for _, q := range v.Queues[:min(len(v.Queues), mostQueues)] {
		queue := text.Printable(q.Queue)
		if q.Weight > 1 {
			queue += fmt.Sprintf("=%d", q.Weight)
		}
		queues = append(queues, queue)
	}
	shown := strings.Join(queues, ", ")
	if more := v.More + len(v.Queues) - len(queues); more > 0 {
		shown += fmt.Sprintf(" and %d more", more)
	}
	notes := "-"
	switch {
	case v.Stopping:
		notes = "stopping"
	case time.Since(v.Seen) > broker.InstanceKept/2: // it announces itself more often
		notes = "SILENT: it may have died"
	}
	return orDash(shown) + "\t" + notes
}
