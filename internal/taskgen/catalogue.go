package taskgen

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"github.com/taskgen/taskgen/internal/directive"
	"github.com/taskgen/taskgen/internal/scan"
	"github.com/taskgen/taskgen/internal/schema"
)

// Task is one task of the catalogue. Durations are in Go's format.
type Task struct {
	Name        string          `json:"name"`
	Aliases     []string        `json:"aliases,omitempty"`
	Kind        string          `json:"kind"` // io or cpu
	Queue       string          `json:"queue"`
	From        []string        `json:"from,omitempty"` // further queues from which its runs are taken
	Priority    string          `json:"priority"`       // high, medium or low
	Schedule    *Schedule       `json:"schedule,omitempty"`
	Retry       Retry           `json:"retry"`
	Timeout     string          `json:"timeout"`
	Expire      string          `json:"expire,omitempty"`      // empty: never
	Keep        string          `json:"keep,omitempty"`        // empty: no record of a success
	KeepParams  bool            `json:"keep_params,omitempty"` // the record has the parameters too
	Unique      *Limit          `json:"unique,omitempty"`
	Concurrency *Limit          `json:"concurrency,omitempty"`
	Rate        *Limit          `json:"rate,omitempty"`
	Fair        string          `json:"fair,omitempty"`   // the parameter or field of //task:fair
	Memory      int64           `json:"memory,omitempty"` // bytes; 0: no cap
	Env         []string        `json:"env,omitempty"`    // KEY=value
	Tags        []string        `json:"tags,omitempty"`
	Trace       string          `json:"trace,omitempty"`   // child: what an attempt's span is to the one that queued the run; empty: linked
	Secrets     []string        `json:"secrets,omitempty"` // parameters that must not be shown
	Doc         string          `json:"doc,omitempty"`
	Function    string          `json:"function"` // FetchData, Mailer.Send
	Stub        string          `json:"stub"`
	Package     string          `json:"package"`                // its import path
	Position    string          `json:"position"`               // file:line:col, as in problems
	Params      json.RawMessage `json:"params"`                 // a JSON Schema
	Result      json.RawMessage `json:"result,omitempty"`       // a JSON Schema; empty without a result
	ReturnsCall bool            `json:"returns_call,omitempty"` // the function returns a call, whose result is Result

	wireParams, wireResult string // in the grammar of package schema
}

// Schedule is the schedule of a task.
type Schedule struct {
	Every     string `json:"every,omitempty"`
	Start     bool   `json:"start,omitempty"`
	Cron      string `json:"cron,omitempty"`
	Zone      string `json:"zone,omitempty"` // of Cron
	Jitter    string `json:"jitter,omitempty"`
	Missed    string `json:"missed"`              // skip, latest or all
	MissedMax int    `json:"missedMax,omitempty"` // of all
	Overlap   bool   `json:"overlap"`             // a tick may start while the previous one runs

	*Explanation // nil unless Config.Now is set
}

// String returns the schedule in a few words.
func (s *Schedule) String() string {
	switch {
	case s == nil:
		return "-"
	case s.Cron != "":
		return fmt.Sprintf("cron %q %s", s.Cron, s.Zone)
	}
	return "every " + s.Every
}

// Retry is how often a task is retried, and the range of its back-off.
type Retry struct {
	Retries int     `json:"retries"` // after the first attempt
	Min     string  `json:"min"`
	Max     string  `json:"max"`
	Factor  float64 `json:"factor"`
}

// Limit is a policy over runs with equal parameters.
type Limit struct {
	Max int      `json:"max,omitempty"` // runs at once, or starts within Per
	Per string   `json:"per,omitempty"` // of a rate
	For string   `json:"for,omitempty"` // of unique: the longest time
	By  []string `json:"by,omitempty"`  // if empty: all parameters for unique, no distinction for others

	UntilStart bool `json:"until_start,omitempty"` // of unique: until the run starts
	Smooth     bool `json:"smooth,omitempty"`      // of a rate: starts are spread over Per
}

// The runtime's defaults, as documented in its Spec and RetryPolicy.
const (
	defaultRetries    = 3
	defaultMin        = time.Second
	defaultMax        = 10 * time.Minute
	defaultFactor     = 2
	defaultIOTimeout  = 5 * time.Minute
	defaultCPUTimeout = 30 * time.Minute
	defaultMissedMax  = 100
)

// newTask returns a task's entry in the catalogue.
func newTask(cfg Config, pkg *scan.Package, t *scan.Task) (Task, error) {
	o := &t.Options
	task := Task{
		Name:        t.Name,
		Aliases:     texts(o.Aliases),
		Kind:        o.Kind,
		Queue:       cmp.Or(o.Queue, "default"),
		From:        o.From,
		Priority:    cmp.Or(o.Priority, "medium"),
		Schedule:    schedule(o),
		Retry:       retry(o.Retry),
		Timeout:     timeout(o).String(),
		Expire:      duration(o.Expire),
		Keep:        duration(t.Keep()),
		KeepParams:  o.KeepParams,
		Unique:      unique(o.Unique),
		Concurrency: concurrency(o.Concurrency),
		Rate:        rate(o.Rate),
		Memory:      o.Memory,
		Env:         o.Env,
		Tags:        o.Tags,
		Trace:       trace(o),
		Secrets:     texts(o.Secrets),
		Doc:         t.Doc,
		Function:    t.Link(),
		Stub:        t.StubName(),
		Package:     pkg.Path,
		Position:    scan.Relative(cfg.Dir, t.Pos).String(),
		ReturnsCall: t.ReturnsCall,
	}
	if o.Fair != nil {
		task.Fair = o.Fair.Text
	}
	if err := task.explainSchedule(o, cfg.Now); err != nil {
		return task, fmt.Errorf("explain task %s: %w", t.Name, err)
	}
	if err := task.addSchemas(t); err != nil {
		return task, fmt.Errorf("describe task %s: %w", t.Name, err)
	}
	return task, nil
}

// explainSchedule adds the explanation of the task's schedule, if it has one and now is
// set.
func (t *Task) explainSchedule(o *directive.Options, now time.Time) (err error) {
	if t.Schedule != nil && !now.IsZero() {
		t.Schedule.Explanation, err = explain(o, now)
	}
	return err
}

// addSchemas adds the JSON Schemas of the parameters and the result.
func (t *Task) addSchemas(source *scan.Task) (err error) {
	params := source.WireParams()
	t.wireParams = schema.Params(params)
	if t.Params, err = schema.ParamsJSON(params); err != nil {
		return err
	}
	if result := source.WireResult(); result != nil {
		t.wireResult = result.String()
		t.Result, err = result.JSON()
	}
	return err
}

func trace(o *directive.Options) string {
	if o.Trace == "child" {
		return o.Trace
	}
	return ""
}

func timeout(o *directive.Options) time.Duration {
	if o.Kind == "cpu" {
		return cmp.Or(o.Timeout, defaultCPUTimeout)
	}
	return cmp.Or(o.Timeout, defaultIOTimeout)
}

func unique(u *directive.Unique) *Limit {
	if u == nil {
		return nil
	}
	return &Limit{For: u.For.String(), By: texts(u.By), UntilStart: u.UntilStart}
}

func concurrency(c *directive.Concurrency) *Limit {
	if c == nil {
		return nil
	}
	return &Limit{Max: c.Max, By: texts(c.By)}
}

func rate(r *directive.Rate) *Limit {
	if r == nil {
		return nil
	}
	return &Limit{Max: r.Max, Per: r.Per.String(), By: texts(r.By), Smooth: r.Smooth}
}

func schedule(o *directive.Options) *Schedule {
	if !o.SchedulePos.IsValid() {
		return nil
	}
	s := &Schedule{
		Every:   duration(o.Every),
		Start:   o.Start,
		Cron:    o.Cron,
		Jitter:  duration(o.Jitter),
		Missed:  cmp.Or(o.Missed, "latest"),
		Overlap: !o.SkipOverlap,
	}
	if s.Cron != "" {
		s.Zone = cmp.Or(o.Zone, "UTC")
	}
	if s.Missed == "all" {
		s.MissedMax = cmp.Or(o.MissedMax, defaultMissedMax)
	}
	return s
}

func retry(r *directive.Retry) Retry {
	if r == nil {
		r = &directive.Retry{Retries: defaultRetries}
	}
	return Retry{
		Retries: r.Retries,
		Min:     cmp.Or(r.Min, defaultMin).String(),
		Max:     cmp.Or(r.Max, defaultMax).String(),
		Factor:  cmp.Or(r.Factor, defaultFactor),
	}
}

// duration formats d; 0 is "".
func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func texts(words []directive.Word) []string {
	var list []string
	for _, w := range words {
		list = append(list, w.Text)
	}
	return list
}
