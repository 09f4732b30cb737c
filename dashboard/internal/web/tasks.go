package web

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/cron"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// tasksOnPage is how many tasks one page has.
const tasksOnPage = 100

type tasksView struct {
	Rows    []taskRow
	Known   int
	Filter  string
	Kind    string
	Tag     string
	Tags    []string
	Pager   *pagerView
	Empty   *emptyView
	Aliases bool
}

// taskRow is a task in a table.
type taskRow struct {
	Name     string
	Doc      string // its first line
	Kind     string
	Queue    string
	Schedule string // in words; empty: it has none
	Policies []string
	Tags     []string
	Disabled bool
}

func newTaskRow(t taskrt.Task, f *fleet) taskRow {
	s := t.Spec()
	row := taskRow{
		Name: s.Name, Doc: docOf(s), Kind: s.Kind.String(), Queue: s.Queue, Tags: s.Tags,
		Schedule: timingWords(s.Schedule), Policies: policyWords(s), Disabled: f.disabled(s.Queue, s.Name),
	}
	return row
}

// docOf is the first paragraph of a task's doc.
func docOf(s taskrt.Spec) string {
	first, _, _ := strings.Cut(strings.TrimSpace(s.Doc), "\n\n")
	return strings.Join(strings.Fields(first), " ")
}

// disabled reports whether a task is disabled in a queue.
func (f *fleet) disabled(queue, task string) bool {
	q := f.queue(queue)
	return q != nil && slices.Contains(q.Disabled, task)
}

// ruleWords describes the rule of a schedule: a cron expression, or @every and a duration.
func ruleWords(spec, zone string) string {
	if every, found := strings.CutPrefix(spec, "@every "); found {
		d, err := time.ParseDuration(every)
		if err != nil {
			return spec
		}
		switch d {
		case 24 * time.Hour:
			return "every day"
		case time.Hour:
			return "every hour"
		case time.Minute:
			return "every minute"
		case time.Second:
			return "every second"
		}
		return "every " + durationWords(d)
	}
	s, err := cron.Parse(spec)
	if err != nil {
		return spec
	}
	if w := s.Words(); zone != "" {
		return w + ", " + zone + " time"
	} else {
		return w + " UTC"
	}
}

// timingWords describes when schedulers queue a task.
func timingWords(t taskrt.Timing) string {
	var words string
	switch {
	case t.Every > 0:
		words = ruleWords("@every "+t.Every.String(), "")
	case t.Cron != "":
		words = ruleWords(t.Cron, t.Zone)
	default:
		return ""
	}
	if t.Start {
		words += ", and when a scheduler starts"
	}
	if t.Jitter > 0 {
		words += ", moved by up to " + durationWords(t.Jitter)
	}
	return words
}

// durationWords is a duration as directives have it, in whole units.
func durationWords(d time.Duration) string {
	switch {
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + " days"
	case d == 24*time.Hour:
		return "1 day"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// policyWords are the policies of a task that differ from the defaults, a few words each.
func policyWords(s taskrt.Spec) (words []string) {
	add := func(is bool, text string) {
		if is {
			words = append(words, text)
		}
	}
	add(s.Unique > 0, "unique")
	add(s.Limit.Concurrency > 0, "at most "+strconv.Itoa(s.Limit.Concurrency)+" at once")
	add(s.Limit.Rate > 0, strconv.Itoa(s.Limit.Rate)+" starts in "+durationWords(s.Limit.Per))
	add(s.Fair, "fair")
	add(s.Expire > 0, "expires after "+durationWords(s.Expire))
	add(s.Retry.Attempts == 1, "no retries")
	add(s.Memory > 0, bytesText(int(s.Memory))+" of memory")
	add(len(s.Secrets) > 0, "secrets")
	return words
}

func tasksPage(ctx context.Context, r *request) (any, error) {
	f, err := r.fleet(ctx)
	if err != nil {
		return nil, err
	}
	u := access.UserOf(ctx)
	v := &tasksView{Filter: r.get("name"), Kind: r.get("kind"), Tag: r.get("tag")}
	for _, t := range r.site.Tasks {
		if !u.Allows(access.Read, t.Name()) {
			continue
		}
		v.Known++
		v.Tags = append(v.Tags, t.Spec().Tags...)
		if row := newTaskRow(t, f); v.matches(row) {
			v.Rows = append(v.Rows, row)
		}
	}
	slices.Sort(v.Tags)
	v.Tags = slices.Compact(v.Tags)
	sortRows(v.Rows, func(a, b taskRow) int { return cmp.Compare(a.Name, b.Name) })
	switch {
	case v.Known == 0:
		v.Empty = &emptyView{Title: "This program has no tasks", Text: "A task is a Go function with a //task: comment. Give the generated tasks to the dashboard: dashboard.New(broker, config, tasks.Tasks())."}
	case len(v.Rows) == 0:
		v.Empty = &emptyView{Title: "No task matches", Text: "None of the " + strconv.Itoa(v.Known) + " tasks has all of this.", Href: "tasks", Link: "Show all tasks"}
	}
	v.Pager = cutPage(r, &v.Rows, tasksOnPage, "Tasks")
	return v, nil
}

func (v *tasksView) matches(row taskRow) bool {
	in := strings.ToLower(row.Name + "\n" + row.Queue + "\n" + row.Doc)
	return strings.Contains(in, strings.ToLower(v.Filter)) && (v.Kind == "" || row.Kind == v.Kind) && (v.Tag == "" || slices.Contains(row.Tags, v.Tag))
}

// cutPage cuts rows to those of one page, from the value of from in the query. It returns nil
// if one page has them all.
func cutPage[T any](r *request, rows *[]T, most int, thing string) *pagerView {
	all := *rows
	from := min(r.number("from", 0, 0, 1<<20), max(len(all)-1, 0))
	to := min(from+most, len(all))
	if from == 0 && to == len(all) {
		return nil
	}
	p := &pagerView{Text: thing + " " + strconv.Itoa(from+1) + " to " + strconv.Itoa(to) + " of " + strconv.Itoa(len(all))}
	if from > 0 {
		p.First = r.with("from", "")
	}
	if to < len(all) {
		p.Next = r.with("from", strconv.Itoa(to))
	}
	*rows = all[from:to]
	return p
}
