package web

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/schema"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	shortValue = 600      // characters of a value that are shown at once
	longValue  = 16 << 10 // bytes of one that are on the page
	mostHex    = 512      // bytes of a payload that are on the page
)

type runView struct {
	ID, Task, Queue string
	State           broker.State
	Known           bool // the program has the task
	Facts           []runFact
	Progress        *progressView
	Failure         *failureOfRun
	Timeline        *timeline
	Params          []paramView
	ParamsNote      string // why there are none
	Result          *valueView
	ResultNote      string
	Payload         *payloadView
	Relatives       []relative
	Headers         []field

	CanCancel, CanRunNow, CanRetry bool
}

func (v *runView) PageTitle() string { return v.Task + " " + v.ID }

// runFact is a name and what is known.
type runFact struct {
	Name string
	Text string
	Time time.Time
	Href string
}

type progressView struct {
	Done, Total int64
	Note        string
	Percent     string
}

// failureOfRun is why a run failed.
type failureOfRun struct {
	Kind, Message string
	Exit          []runFact // of the child process
	Stack         string
	Cut           string
	Last          bool // it is that of the last attempt, and another follows
}

// paramView is a parameter with its type.
type paramView struct {
	Name, Type string
	Secret     bool
	Value      valueView
}

// valueView is a value, of which only the beginning is shown at once if it is long.
type valueView struct {
	Short string
	Long  string // empty: Short is all
	Size  string
	Cut   bool   // Long is not all either
	Words string // a duration in words
}

// payloadView is the bytes of the parameters.
type payloadView struct {
	Size, Hex string
	More      bool
	Hidden    string // why they are not shown
}

// relative is a run, or a group of runs, that has to do with another.
type relative struct {
	Kind string
	Name string
	Href string
}

func runPage(ctx context.Context, r *request) (any, error) {
	id, err := r.must("id")
	if err != nil {
		return nil, err
	}
	d, err := r.site.runDetail(ctx, broker.RunRef{Queue: r.get("queue"), ID: id})
	if err != nil {
		return nil, err
	}
	if err := readableRun(ctx, d.Task); err != nil {
		return nil, err
	}
	r.warnSkippedTo(ctx, d.Skipped)
	return newRunView(d, r.site.task(d.Task), access.UserOf(ctx)), nil
}

// task returns a task of the program by one of its names, nil if it has none.
func (s *site) task(name string) *taskrt.Task {
	for i := range s.Tasks {
		if t := &s.Tasks[i]; t.Name() == name || slices.Contains(t.Spec().Aliases, name) {
			return t
		}
	}
	return nil
}

func newRunView(d *taskrt.RunDetail, t *taskrt.Task, u *access.User) *runView {
	v := &runView{ID: d.ID, Task: d.Task, Queue: d.Queue, State: d.State, Known: t != nil}
	v.CanCancel = !d.State.Ended()
	v.CanRunNow = d.State == broker.StateDelayed
	v.CanRetry = d.Dead != nil
	v.addFacts(d)
	v.addProgress(d)
	v.addFailure(d)
	v.Timeline = newTimeline(d, time.Now())
	v.addParams(d, t)
	v.addRelatives(d, u)
	if d.Run != nil {
		for _, name := range slices.Sorted(maps.Keys(d.Run.Headers)) {
			v.Headers = append(v.Headers, field{name, d.Run.Headers[name]})
		}
	}
	return v
}

func (v *runView) addFacts(d *taskrt.RunDetail) {
	add := func(name, text string) {
		if text != "" {
			v.Facts = append(v.Facts, runFact{Name: name, Text: text})
		}
	}
	at := func(name string, t time.Time) {
		if !t.IsZero() {
			v.Facts = append(v.Facts, runFact{Name: name, Time: t})
		}
	}
	at("Queued", d.QueuedAt)
	at("Due", d.Due)
	at("Started", d.Started)
	at("Ended", d.Ended)
	if n := len(d.Attempts); n > 0 && d.State.Ended() && d.Attempts[n-1].Took > 0 {
		add("Last attempt took", span(d.Attempts[n-1].Took))
	}
	attempts := strconv.Itoa(d.Attempt)
	if d.State == broker.StateRunning {
		attempts += ", and one goes on"
	}
	add("Attempts ended", attempts)
	add("Host", d.Host)
	if run := d.Run; run != nil {
		add("Kind", run.Kind.String())
		add("Priority", run.Priority.String())
		if run.Deliveries > d.Attempt+1 {
			add("Deliveries", strconv.Itoa(run.Deliveries))
		}
		if run.Expire > 0 {
			add("Expires", "if not started within "+span(run.Expire)+" of being due")
		}
		if run.Keep > 0 {
			add("Record kept", "for "+span(run.Keep)+" after its end")
		}
	}
	add("Session", d.Session)
}

func (v *runView) addProgress(d *taskrt.RunDetail) {
	p := d.Progress
	if p == nil {
		return
	}
	v.Progress = &progressView{Done: p.Done, Total: p.Total, Note: p.Note}
	if p.Total > 0 {
		v.Progress.Percent = percent(min(100*float64(p.Done)/float64(p.Total), 100))
	}
}

func (v *runView) addFailure(d *taskrt.RunDetail) {
	f := d.Failure
	if f == nil {
		return
	}
	v.Failure = &failureOfRun{Kind: string(f.Kind), Message: f.Message, Last: !d.State.Ended()}
	stack := f.Stack
	if first, rest, _ := strings.Cut(stack, "\n\n"); strings.HasPrefix(first, "exit status ") || strings.HasPrefix(first, "signal: ") {
		v.Failure.Exit, stack = exitFacts(first), rest
	}
	if len(stack) > longValue {
		v.Failure.Cut = fmt.Sprintf("The first %s of %s.", bytesText(longValue), bytesText(len(stack)))
		stack = strings.ToValidUTF8(stack[:longValue], "")
	}
	v.Failure.Stack = strings.ReplaceAll(stack, "\t", "    ")
}

// exitFacts are how a child process ended: its status, then what it used.
func exitFacts(line string) (facts []runFact) {
	for i, part := range strings.Split(line, ", ") {
		name, text := "", part
		switch {
		case i == 0:
			name = "Child process ended by"
			text = strings.TrimPrefix(part, "signal: ")
			if text != part {
				text = "signal: " + text
			}
		case strings.HasPrefix(part, "user "):
			name, text = "Processor time, user", part[len("user "):]
		case strings.HasPrefix(part, "system "):
			name, text = "Processor time, system", part[len("system "):]
		case strings.HasPrefix(part, "at most "):
			name, text = "Peak memory", part[len("at most "):]
		default:
			name = "Also"
		}
		facts = append(facts, runFact{Name: name, Text: text})
	}
	return facts
}

func (v *runView) addParams(d *taskrt.RunDetail, t *taskrt.Task) {
	types := map[string]string{}
	secrets := map[string]bool{}
	if t != nil {
		fields, err := schema.ParseParams(t.Spec().Params)
		for _, f := range fields {
			if err == nil {
				types[f.Key] = f.Type.String()
			}
		}
		for _, p := range t.Params() {
			secrets[p.Name] = p.Secret
		}
	}
	for _, p := range d.Params {
		view := paramView{Name: p.Name, Type: types[p.Name], Secret: secrets[p.Name], Value: newValueView(p.Value)}
		if n, err := strconv.ParseInt(string(p.Value), 10, 64); err == nil && strings.TrimPrefix(view.Type, "*") == "duration" {
			view.Value.Words = time.Duration(n).String()
		}
		v.Params = append(v.Params, view)
	}
	switch {
	case d.ParamsErr != nil:
		v.ParamsNote = "They cannot be shown: " + d.ParamsErr.Error() + "."
	case d.Params == nil:
		v.ParamsNote = "They are not known any more: the record of this run does not keep them (//task:result 1h params does)."
	case len(d.Params) == 0:
		v.ParamsNote = "The task has none."
	}
	switch {
	case d.ResultErr != nil:
		v.ResultNote = "It cannot be shown: " + d.ResultErr.Error() + "."
	case d.Result != nil:
		value := newValueView(d.Result)
		v.Result = &value
	}
	if payload := d.Payload(); payload != nil {
		v.Payload = newPayloadView(payload, t)
	}
}

func newPayloadView(payload []byte, t *taskrt.Task) *payloadView {
	v := &payloadView{Size: bytesText(len(payload)), Hidden: hidesPayload(t)}
	if v.Hidden == "" {
		v.More = len(payload) > mostHex
		v.Hex = hexDump(payload[:min(len(payload), mostHex)])
	}
	return v
}

// hidesPayload returns why the bytes of the parameters of a task are not shown; empty: they are.
func hidesPayload(t *taskrt.Task) string {
	switch {
	case t == nil:
		return "The bytes are not shown, as this program does not have the task: some of them may be secret."
	case len(t.Spec().Secrets) > 0:
		return "The bytes are not shown, as the task has secret parameters."
	}
	return ""
}

// newValueView shortens a value. JSON is indented.
func newValueView(b json.RawMessage) valueView {
	text := pretty(b)
	v := valueView{Short: text, Size: bytesText(len(b))}
	if len(text) <= shortValue {
		return v
	}
	v.Short = brief(100, text)
	v.Long, v.Cut = text, len(text) > longValue
	if v.Cut {
		v.Long = strings.ToValidUTF8(text[:longValue], "")
	}
	return v
}

// hexDump is bytes as hexadecimal numbers, sixteen on a line, and as text.
func hexDump(b []byte) string {
	var out strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		fmt.Fprintf(&out, "%06x  %-47s  ", at, fmt.Sprintf("% x", row))
		for _, c := range row {
			if c < ' ' || c > '~' {
				c = '.'
			}
			out.WriteByte(c)
		}
		out.WriteByte('\n')
	}
	return out.String()
}

func (v *runView) addRelatives(d *taskrt.RunDetail, u *access.User) {
	add := func(kind, name string, page string, pairs ...string) {
		if name == "" {
			return
		}
		href, _ := link(page, pairs...)
		v.Relatives = append(v.Relatives, relative{kind, name, href})
	}
	parent, root := "", ""
	if d.Record != nil {
		parent = d.Record.ParentID
	}
	if d.Run != nil {
		parent, root = d.Run.ParentID, d.Run.RootID
		links := d.Run.Links.OrZero()
		add("Member of group", links.Group, "group", "id", links.Group, "queue", d.Run.GroupQueue())
		add("Gathers group", links.Awaits.ID, "group", "id", links.Awaits.ID, "queue", links.Awaits.Queue)
		for _, next := range links.Then {
			if u.Allows(access.Read, next.Run.Task) {
				add("Then queues", next.Run.Task, "task", "name", next.Run.Task)
			}
		}
	}
	add("Queued by run", parent, "run", "id", parent)
	if root != parent {
		add("First of all", root, "run", "id", root)
	}
	if d.Record != nil {
		for _, s := range d.Record.Successors {
			add("Went on as run", s.ID, "run", "id", s.ID, "queue", s.Queue)
		}
	}
	add("Tree of", "who queued what", "group", "run", d.ID, "queue", d.Queue)
}
