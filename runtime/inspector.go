package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/inspect"
	"github.com/taskgen/taskgen/internal/text"
)

// Inspector shows and operates what a broker has: queues, runs, dead letters, and the
// instances that are up. The command line is made of it, and so can be a program of your own:
//
//	inspector, err := taskrt.NewInspector(b, tasks.Tasks())
//	page, err := inspector.Runs(ctx, taskrt.RunFilter{States: []taskrt.State{broker.StateQueued}, Tag: "mail"}, taskrt.PageOptions{})
//
// A method that looks into several queues skips one that cannot be read, and reports it as
// [Skipped] beside what it found. If it looks into one queue alone, it returns its error.
// A method whose part of the contract the broker lacks returns an error that names the part.
//
// Methods block until the broker has replied or ctx ends, and may be called concurrently.
type Inspector struct {
	fleet *inspect.Fleet
	tasks taskSet
}

// NewInspector returns an inspector of a broker that has [broker.Controls] and
// [broker.Records]. By the tasks it decodes parameters, and hides secret ones; it
// shows runs of other tasks without these. It returns an error if the broker lacks a part,
// or two tasks share a name.
func NewInspector(b broker.Broker, sets ...[]Task) (*Inspector, error) {
	tasks, err := newTaskSet(sets)
	if err != nil {
		return nil, fmt.Errorf("make an inspector: %w", err)
	}
	var queues []string
	for _, t := range tasks.list {
		queues = append(queues, t.spec.Queues()...)
	}
	fleet, err := inspect.New(b, queues)
	if err != nil {
		return nil, fmt.Errorf("make an inspector: %w", err)
	}
	return &Inspector{fleet: fleet, tasks: tasks}, nil
}

// Skipped is a queue that was skipped, in whole or in part, as it could not be read.
type Skipped struct {
	Queue string // empty: the names of the queues that the broker knows could not be read
	Err   error
}

func skippedOf(l *inspect.Look) (skipped []Skipped) {
	for _, s := range l.Skipped() {
		skipped = append(skipped, Skipped(s))
	}
	return skipped
}

// QueueNames returns the names of the queues of the inspector's tasks, and of those in which
// the broker has held a run, sorted. Beside an error it returns those it knows.
func (i *Inspector) QueueNames(ctx context.Context) ([]string, error) {
	l, err := i.fleet.Look(ctx)
	if err != nil {
		return nil, fmt.Errorf("list queues: %w", err)
	}
	for _, s := range l.Skipped() {
		err = fmt.Errorf("list queues: %w", s.Err)
	}
	return l.Queues, err
}

// QueueStatus is what is known of a queue.
type QueueStatus struct {
	broker.QueueInfo

	// Consumers is how many consumers take from the queue, those that are stopping not
	// included. -1: unknown, as the broker has no [broker.Instances].
	Consumers int
	// NoConsumer is set if the queue has runs and no consumer takes from it.
	NoConsumer bool
	// Limits are those of QueueInfo, and whose they are.
	Limits []HeldLimit
}

// QueueList is what [Inspector.Queues] found.
type QueueList struct {
	Queues  []QueueStatus // sorted by name
	Skipped []Skipped
}

// Queues returns what is known of some queues, or of all if none is named.
func (i *Inspector) Queues(ctx context.Context, queues ...string) (*QueueList, error) {
	g, err := i.snapshot(ctx, queues)
	if err != nil {
		return nil, fmt.Errorf("show queues: %w", err)
	}
	return i.queueList(g)
}

// Overview is what [Inspector.Overview] found.
type Overview struct {
	Queues    *QueueList
	Schedules *ScheduleList
}

// Overview returns what [Inspector.Queues] and [Inspector.Schedules] do, at about the cost of
// one of them.
func (i *Inspector) Overview(ctx context.Context, queues ...string) (*Overview, error) {
	g, err := i.snapshot(ctx, queues)
	if err != nil {
		return nil, fmt.Errorf("show queues: %w", err)
	}
	o := new(Overview)
	if o.Queues, err = i.queueList(g); err != nil {
		return nil, err
	}
	if o.Schedules, err = i.schedules(ctx, g); err != nil {
		return nil, fmt.Errorf("list schedules: %w", err)
	}
	return o, nil
}

// snapshot is the state of some queues, and the instances that are up.
type snapshot struct {
	*inspect.Look
	named     []string            // the queues that were asked for; none: all
	infos     []*broker.QueueInfo // of the queues of the look, nil for one that was skipped
	instances []*broker.Instance
	unknown   error // which instances are up is unknown
}

// snapshot looks once into some queues. The error is ctx's, or that of a name.
func (i *Inspector) snapshot(ctx context.Context, queues []string) (*snapshot, error) {
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, err
	}
	g := &snapshot{Look: l, named: queues}
	if g.infos, err = l.Infos(ctx); err != nil {
		return nil, err
	}
	g.instances, g.unknown = i.instances(ctx)
	return g, nil
}

func (i *Inspector) queueList(g *snapshot) (*QueueList, error) {
	list := &QueueList{Skipped: skippedOf(g.Look)}
	if g.unknown != nil && !errors.Is(g.unknown, errNoInstances) {
		list.Skipped = append(list.Skipped, Skipped{Err: g.unknown})
	}
	for _, info := range g.infos {
		if info == nil {
			continue
		}
		s := QueueStatus{QueueInfo: *info, Consumers: -1}
		if g.unknown == nil {
			s.Consumers = serving(g.instances, broker.RoleConsumer, info.Queue)
			s.NoConsumer = s.Consumers == 0 && info.Queued+info.Delayed+info.Running > 0
		}
		for _, l := range info.Limits {
			s.Limits = append(s.Limits, i.heldLimit(l))
		}
		list.Queues = append(list.Queues, s)
	}
	if len(list.Queues) == 0 && len(g.Queues) == 1 && len(list.Skipped) > 0 {
		return nil, fmt.Errorf("show queue %s: %w", g.Queues[0], list.Skipped[0].Err)
	}
	return list, nil
}

var errNoInstances = inspect.Missing("broker.Instances", "who is up is unknown")

// Instances returns the consumers and schedulers that are up, sorted by host, process id and
// id. One that died is listed for [broker.InstanceKept] after it announced itself last.
func (i *Inspector) Instances(ctx context.Context) ([]*broker.Instance, error) {
	instances, err := i.instances(ctx)
	if err != nil {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	return instances, nil
}

func (i *Inspector) instances(ctx context.Context) ([]*broker.Instance, error) {
	b, ok := i.fleet.Broker.(broker.Instances)
	if !ok {
		return nil, errNoInstances
	}
	return b.Instances(ctx)
}

// Hosts returns where the consumers that are up are, by their sessions, as [broker.Attempt]
// has it: of a running run a broker knows the session. The map is empty if the broker has no
// [broker.Instances].
func (i *Inspector) Hosts(ctx context.Context) (map[string]string, error) {
	instances, err := i.instances(ctx)
	if err != nil && !errors.Is(err, errNoInstances) {
		return nil, fmt.Errorf("list instances: %w", err)
	}
	hosts := make(map[string]string)
	for _, instance := range instances {
		if instance.Session != "" {
			hosts[instance.Session] = fmt.Sprintf("%s:%d", instance.Host, instance.PID)
		}
	}
	return hosts, nil
}

// serving returns how many instances of a role serve a queue. One counts for all queues if
// not all of its own are stored.
func serving(instances []*broker.Instance, role broker.Role, queue string) (n int) {
	for _, instance := range instances {
		if instance.Role == role && !instance.Stopping && instance.Serves(queue) {
			n++
		}
	}
	return n
}

// Tallies returns the counts of attempts and ends of the minutes from one instant to another,
// which it does not include, of some queues, or of all if none is named. They are sorted by
// minute, queue and task. A broker keeps them for [broker.TalliesKept] at least.
func (i *Inspector) Tallies(ctx context.Context, from, to time.Time, queues ...string) ([]broker.Tally, error) {
	b, ok := i.fleet.Broker.(broker.Tallies)
	if !ok {
		return nil, fmt.Errorf("read tallies: %w", inspect.Missing("broker.Tallies", "it counts nothing for charts"))
	}
	l, err := i.fleet.Look(ctx, queues...)
	if err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	tallies, err := b.Tallies(ctx, l.Queues, from, to)
	if err != nil {
		return nil, fmt.Errorf("read tallies: %w", err)
	}
	return tallies, nil
}

// Pause stops the delivery of a queue's runs. Runs that were taken before go on.
func (i *Inspector) Pause(ctx context.Context, queue string) error {
	return i.pause(ctx, queue, true)
}

// Resume ends what [Inspector.Pause] began.
func (i *Inspector) Resume(ctx context.Context, queue string) error {
	return i.pause(ctx, queue, false)
}

func (i *Inspector) pause(ctx context.Context, queue string, paused bool) error {
	err := inspect.CheckQueueName(queue)
	if err == nil {
		err = i.fleet.Controls.Pause(ctx, queue, paused)
	}
	if err != nil && paused {
		return fmt.Errorf("pause queue %s: %w", queue, err)
	}
	if err != nil {
		return fmt.Errorf("resume queue %s: %w", queue, err)
	}
	return nil
}

// Disable stops the delivery of a task's runs under all its names, and the queueing of its
// ticks, in some queues, or in the task's own if none is named. It returns [ErrUnknownTask]
// if the inspector does not know the task and no queue is named.
func (i *Inspector) Disable(ctx context.Context, task string, queues ...string) error {
	return i.disable(ctx, task, true, queues)
}

// Enable ends what [Inspector.Disable] began.
func (i *Inspector) Enable(ctx context.Context, task string, queues ...string) error {
	return i.disable(ctx, task, false, queues)
}

func (i *Inspector) disable(ctx context.Context, task string, disabled bool, queues []string) error {
	verb := "enable"
	if disabled {
		verb = "disable"
	}
	t := i.tasks.byName[task]
	if t == nil && len(queues) == 0 {
		return fmt.Errorf("%s task %.64q: %w; known are %s", verb, task, ErrUnknownTask, text.List(i.taskNames(), 20))
	}
	if len(queues) == 0 {
		queues = t.spec.Queues()
	}
	for _, queue := range queues {
		for _, name := range i.namesOf(task) {
			if err := i.fleet.Controls.Disable(ctx, queue, name, disabled); err != nil {
				return fmt.Errorf("%s task %s in queue %s: %w", verb, name, queue, err)
			}
		}
	}
	return nil
}

func (i *Inspector) taskNames() (names []string) {
	for _, t := range i.tasks.list {
		names = append(names, t.spec.Name)
	}
	return names
}

// namesOf returns the names under which runs of a task can be queued. It may be one that the
// inspector does not know, whose runs are still there.
func (i *Inspector) namesOf(task string) []string {
	if t := i.tasks.byName[task]; t != nil {
		return append([]string{t.spec.Name}, t.spec.Aliases...)
	}
	return []string{task}
}

// HeldLimit is a limit that keeps runs back, and whose it is.
type HeldLimit struct {
	broker.LimitInfo

	// Task is the task whose limit it is. Empty: unknown, as it is none of this module's.
	Task string
	// Digest is that of the values of the parameters that the limit depends on. Empty: it
	// depends on none, or Task is.
	Digest string
	// Values are these values as JSON, in the order of the directive. It is nil if they are unknown,
	// as if none of the runs that wait can be read, or the limit depends on a secret parameter.
	Values []json.RawMessage
}

// digestLength is that of digestOf.
const digestLength = 22

// heldLimit returns whose limit it is, as far as its key and one of the runs that wait tell.
func (i *Inspector) heldLimit(info broker.LimitInfo) HeldLimit {
	h := HeldLimit{LimitInfo: info}
	rest := strings.TrimSuffix(info.Key, "/smooth")
	digest := ""
	if at := strings.LastIndexByte(rest, '/'); at >= 0 && len(rest)-at-1 == digestLength {
		rest, digest = rest[:at], rest[at+1:]
	}
	task, concurrency := strings.CutSuffix(rest, "/running")
	rate := false
	if !concurrency {
		task, rate = strings.CutSuffix(rest, "/rate")
	}
	if !concurrency && !rate {
		return h
	}
	h.Task, h.Digest = task, digest
	t := i.tasks.byName[task]
	if t != nil {
		h.Task = t.spec.Name // the key has its first name
	}
	if t != nil && digest != "" && info.Run != nil && !t.limitHides(rate) {
		h.Values = t.shownValues(info.Run.Payload, rate, digest)
	}
	return h
}

// limitHides reports whether a limit depends on a secret parameter, or may.
func (t *Task) limitHides(rate bool) bool {
	paths := t.spec.By.Concurrency
	if rate {
		paths = t.spec.By.Rate
	}
	isSecret := func(path string) bool {
		param, _, _ := strings.Cut(path, ".")
		return slices.Contains(t.spec.Secrets, param)
	}
	return len(t.spec.Secrets) > 0 && (len(paths) == 0 || slices.ContainsFunc(paths, isSecret))
}

// shownValues returns the values of a payload that a limit depends on, nil if they do not have
// the digest, or have no form that JSON has.
func (t *Task) shownValues(payload []byte, rate bool, digest string) (shown []json.RawMessage) {
	b, err := t.limitValues(payload, rate)
	if err != nil || digestOf(b) != digest {
		return nil
	}
	r := codec.NewReader(b)
	for r.Offset() < len(b) && r.More() {
		var v any
		switch r.Kind() {
		case codec.KindNil:
			r.Nil()
		case codec.KindBool:
			v = r.Bool()
		case codec.KindInteger:
			if v = r.Int64(); r.Err() != nil { // larger
				return nil
			}
		case codec.KindFloat:
			v = r.Float64()
		case codec.KindString:
			v = r.String()
		default:
			return nil
		}
		shown = append(shown, showValue(v))
	}
	if r.Err() != nil {
		return nil
	}
	return shown
}
