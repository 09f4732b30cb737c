package web

import (
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// filterNames are the values of a query that choose runs and dead letters.
var filterNames = []string{"state", "queue", "task", "tag", "kind", "error", "alike", "key", "since", "before", "id"}

// failureKinds are the kinds of failure that runs can be chosen by.
var failureKinds = []broker.FailureKind{
	broker.FailureFailed, broker.FailureTimeout, broker.FailureCrashed, broker.FailureOOM, broker.FailureCancelled,
	broker.FailureExpired, broker.FailureSchema, broker.FailureDuplicate, broker.FailureLost,
}

// runStates are the states that runs can be chosen by, in the order in which they are listed.
var runStates = []broker.State{
	broker.StateRunning, broker.StateQueued, broker.StateDelayed, broker.StateFailed, broker.StateCancelled, broker.StateSucceeded,
}

// runFilter returns the filter of the query.
func (r *request) runFilter() (taskrt.RunFilter, error) {
	return runFilterOf(r.site, r.query, time.Now())
}

// runFilterOf returns the filter of a query or a form.
func runFilterOf(s *site, q url.Values, now time.Time) (f taskrt.RunFilter, err error) {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	f = taskrt.RunFilter{Task: get("task"), Tag: get("tag"), Kind: broker.FailureKind(get("kind")), Error: get("error"), Alike: get("alike"), Key: get("key")}
	for _, queue := range q["queue"] {
		if queue = strings.TrimSpace(queue); queue == "" {
			continue
		}
		if err := checkQueue(queue); err != nil {
			return f, err
		}
		f.Queues = append(f.Queues, queue)
	}
	for _, state := range q["state"] {
		switch {
		case state == "":
		case !slices.Contains(runStates, broker.State(state)):
			return f, badRequest("no run is in the state %.40q", state)
		default:
			f.States = append(f.States, broker.State(state))
		}
	}
	for _, id := range q["id"] {
		if id = strings.TrimSpace(id); id != "" {
			f.IDs = append(f.IDs, id)
		}
	}
	if f.Tag != "" && !slices.ContainsFunc(s.Tasks, func(t taskrt.Task) bool { return slices.Contains(t.Spec().Tags, f.Tag) }) {
		return f, badRequest("no task of this program has the tag %.64q", f.Tag)
	}
	if f.Kind != "" && !slices.Contains(failureKinds, f.Kind) {
		return f, badRequest("there is no failure of the kind %.40q", string(f.Kind))
	}
	if f.Since, err = instantOf(get("since"), now); err != nil {
		return f, badRequest("since: %v", err)
	}
	if f.Before, err = instantOf(get("before"), now); err != nil {
		return f, badRequest("before: %v", err)
	}
	return f, nil
}

// instantOf returns an instant: RFC 3339, a date in UTC, or a time ago, such as 90m or 3d.
func instantOf(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	days, rest := time.Duration(0), text
	if n, after, found := strings.Cut(text, "d"); found {
		d, err := time.ParseDuration(n + "h")
		if err != nil {
			return time.Time{}, badRequest("%.40q is neither a time, such as 2026-01-02T15:04, nor a time ago, such as 90m or 3d", text)
		}
		days, rest = 24*d, after
	}
	ago := days
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil {
			return time.Time{}, badRequest("%.40q is neither a time, such as 2026-01-02T15:04, nor a time ago, such as 90m or 3d", text)
		}
		ago += d
	}
	return now.Add(-ago), nil
}

// tags returns the tags of the program's tasks that a user may read, sorted.
func (s *site) tags(u *access.User) (tags []string) {
	for _, t := range s.Tasks {
		if !u.Allows(access.Read, t.Name()) {
			continue
		}
		tags = append(tags, t.Spec().Tags...)
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// filterView is the form by which runs are chosen.
type filterView struct {
	Page   string // that shows them
	Values map[string]string
	Queues []string // names to complete
	Tasks  []string
	Tags   []string
	Kinds  []broker.FailureKind
	More   bool // filters that are seldom used are set
	Any    bool // some are set
	Clear  string
	Hidden []field // kept as they are
}

// mostNames is how many names a page completes.
const mostNames = 300

// filterView returns the form of a page. State is no part of it.
func (r *request) filterView(ctx context.Context, queues []string) *filterView {
	u := access.UserOf(ctx)
	v := &filterView{Page: r.page.name, Values: map[string]string{}, Queues: queues[:min(len(queues), mostNames)], Tags: r.site.tags(u), Kinds: failureKinds}
	for _, t := range r.site.Tasks {
		if len(v.Tasks) < mostNames && u.Allows(access.Read, t.Name()) {
			v.Tasks = append(v.Tasks, t.Name())
		}
	}
	clear := []string{}
	for _, name := range filterNames {
		v.Values[name] = r.get(name)
		if name == "state" {
			continue
		}
		clear = append(clear, name, "")
		v.Any = v.Any || v.Values[name] != ""
		v.More = v.More || v.Values[name] != "" && slices.Contains([]string{"tag", "kind", "since", "before"}, name)
	}
	v.Clear = r.with(clear...)
	return v
}

// filterQuery returns the filters of the query as pairs for a link.
func (r *request) filterQuery() (pairs []string) {
	for _, name := range filterNames {
		for _, value := range r.all(name) {
			pairs = append(pairs, name, value)
		}
	}
	return pairs
}
