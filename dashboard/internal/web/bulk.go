package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// bulkVerb is a change of all that match, as pages name it.
type bulkVerb struct {
	kind    bulk.Kind
	title   string // as a question's beginning
	doing   string
	thing   string
	danger  bool
	ofDead  bool
	confirm string // of the button
}

// bulkVerbs are the changes of all, by the value of "do".
var bulkVerbs = map[string]bulkVerb{
	"cancel":  {bulk.Cancel, "Cancel all runs that match", "Cancelling runs", "run", true, false, "Cancel them"},
	"run-now": {bulk.RunNow, "Run all delayed runs that match now", "Making delayed runs due", "run", false, false, "Make them due now"},
	"retry":   {bulk.Requeue, "Queue all dead letters that match again", "Queueing dead letters again", "dead letter", false, true, "Queue them again"},
	"delete":  {bulk.Delete, "Delete all dead letters that match", "Deleting dead letters", "dead letter", true, true, "Delete them for good"},
}

// verbOf returns the verb of a kind.
func verbOf(k bulk.Kind) (name string, verb bulkVerb) {
	for name, verb := range bulkVerbs {
		if verb.kind == k {
			return name, verb
		}
	}
	return string(k), bulkVerb{kind: k, doing: string(k), thing: "run"}
}

type bulkView struct {
	Ask  *bulkAsk
	Job  *jobRow
	Jobs []jobRow
}

// PageTitle is the title of the page.
func (v *bulkView) PageTitle() string {
	if v.Ask != nil {
		return v.Ask.Title
	}
	return "Changes of all that match"
}

// bulkAsk is a change before it is confirmed.
type bulkAsk struct {
	Do      string // of the form
	Title   string
	Danger  bool
	Confirm string
	Filter  []fact // in words
	Fields  []field
	Problem string

	Count    string
	Complete bool // all was counted
	None     bool
	Looked   string
	CountAll string // link that counts all of it
	Back     string // the list with the filter
	Sample   []sampleRow

	SampleTime string // which time of theirs is shown
	Allowed    bool
	Skipped    []taskrt.Skipped
}

// sampleRow is one of those that would be changed.
type sampleRow struct {
	Ref         runRef
	Task, Queue string
	What        string
	At          time.Time
}

// jobRow is a job of this process.
type jobRow struct {
	ID, Title    string
	User         string
	State        bulk.State
	Class        string
	Running      bool
	Started      time.Time
	Took         string
	Changed      int
	Stayed       int
	Looked       int
	Total        int64
	Done, Of     int64 // of the progress bar
	Filter       []fact
	PerSecond    int
	Stays        []stayRow
	MoreStays    int
	Missing      []string
	MissingMore  int
	SkippedCount int
	Err          string
	Again        string // link to ask for it again
	MayStop      bool
	Thing        string
}

// stayRow is why some stayed as they were.
type stayRow struct {
	Why   string
	Count int
	Refs  []runRef
}

func bulkPage(ctx context.Context, r *request) (any, error) {
	v := &bulkView{}
	u := access.UserOf(ctx)
	if id := r.get("job"); id != "" {
		status, err := r.site.Jobs.Get(ctx, id)
		if err != nil {
			return nil, bulkError(err)
		}
		row := newJobRow(&status, u)
		v.Job = &row
	}
	if r.get("do") != "" && v.Job == nil {
		var err error
		if v.Ask, err = r.bulkAsk(ctx, u); err != nil {
			return nil, err
		}
		return v, nil
	}
	for _, status := range r.site.Jobs.List(ctx) {
		if v.Job == nil || status.ID != v.Job.ID {
			v.Jobs = append(v.Jobs, newJobRow(&status, u))
		}
	}
	return v, nil
}

// bulkError gives an error of jobs its status.
func bulkError(err error) error {
	if status := bulk.HTTPStatus(err); status != 0 {
		return statusError{status, err}
	}
	return err
}

// filterFacts are a filter in words.
func filterFacts(f taskrt.RunFilter) (facts []fact) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, fact{Name: name, Text: value})
		}
	}
	states := make([]string, len(f.States))
	for i, s := range f.States {
		states[i] = string(s)
	}
	add("State", strings.Join(states, ", "))
	add("Queue", strings.Join(f.Queues, ", "))
	add("Task", f.Task)
	add("Tag", f.Tag)
	add("Kind of failure", string(f.Kind))
	add("Error has", f.Error)
	add("Error reads", f.Alike)
	add("Run, unique key, parent or group", f.Key)
	if len(f.IDs) > 0 {
		add("Ids", text.List(f.IDs, 5))
	}
	if !f.Since.IsZero() {
		add("Since", f.Since.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if !f.Before.IsZero() {
		add("Before", f.Before.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return facts
}

// bulkAsk counts what a change would do, and changes nothing.
func (r *request) bulkAsk(ctx context.Context, u *access.User) (*bulkAsk, error) {
	do := r.get("do")
	verb, known := bulkVerbs[do]
	if !known {
		return nil, badRequest("no change of all is named %.40q; known are cancel, run-now, retry and delete", do)
	}
	a := &bulkAsk{Do: "all-" + do, Title: verb.title, Danger: verb.danger, Confirm: verb.confirm}
	pairs := r.filterQuery()
	list := "runs"
	if verb.ofDead {
		list = "dead"
	}
	a.Back, _ = link(list, pairs...)
	filter, err := r.runFilter()
	if err != nil {
		a.Problem = err.Error()
		return a, nil
	}
	a.Filter = filterFacts(filter)
	for i := 0; i < len(pairs); i += 2 {
		a.Fields = append(a.Fields, field{pairs[i], pairs[i+1]})
	}
	if !filter.Since.IsZero() || !filter.Before.IsZero() {
		a.fixTimes(filter)
	}
	if err := access.Check(ctx, verb.kind.Action(), filter.Task); err != nil {
		return nil, err
	}
	if err := statesOf(verb.kind, &filter); err != nil {
		return nil, err
	}
	if a.Allowed = true; r.get("count") != "" {
		count, err := r.site.Jobs.Count(ctx, bulk.Request{Kind: verb.kind, Filter: filter})
		if err != nil {
			return nil, bulkError(err)
		}
		a.counted(ctx, &count.ChangeResult, count.Complete, verb, r)
	}
	return a, r.preview(ctx, verb, filter, a)
}

// fixTimes has the form carry instants in place of times ago: what was counted is what is
// changed.
func (a *bulkAsk) fixTimes(f taskrt.RunFilter) {
	for i := range a.Fields {
		switch a.Fields[i].Name {
		case "since":
			a.Fields[i].Value = f.Since.UTC().Format(time.RFC3339Nano)
		case "before":
			a.Fields[i].Value = f.Before.UTC().Format(time.RFC3339Nano)
		}
	}
}

// counted sets what was counted.
func (a *bulkAsk) counted(ctx context.Context, result *taskrt.ChangeResult, complete bool, verb bulkVerb, r *request) {
	a.Complete, a.Skipped = complete, result.Skipped
	r.warnSkippedTo(ctx, result.Skipped)
	n := int64(result.Changed)
	things := plural(n, verb.thing, verb.thing+"s")
	a.None = complete && n == 0
	a.Count = text.Thousands(n) + " " + things
	if !complete {
		a.Count = "At least " + a.Count
		a.Looked = fmt.Sprintf("%s of about %s were looked at so far.", text.Thousands(int64(result.Looked)), text.Thousands(result.Total))
		a.CountAll = r.with("count", "1")
	} else {
		a.Looked = fmt.Sprintf("Looked at all %s.", text.Thousands(int64(result.Looked)))
	}
	if access.UserOf(ctx).Restricted() {
		a.Looked = "" // at those of other tasks too
	}
}

// sampled is how many of those that match are shown.
const sampled = 10

// preview counts what matches among the first that are looked at, at the cost of a list, and
// shows some of it.
func (r *request) preview(ctx context.Context, verb bulkVerb, filter taskrt.RunFilter, a *bulkAsk) error {
	sample := a.sampleRuns
	if verb.ofDead {
		sample = a.sampleDead
	}
	found, complete, err := sample(ctx, r.site.Inspector, filter)
	if err != nil {
		return err
	}
	if a.Count != "" { // all was counted already
		return nil
	}
	if choosesAll(filter) && !complete && found.Total > int64(found.Changed) {
		a.Count = "About " + text.Thousands(found.Total) + " " + verb.thing + "s"
		a.Looked = "All of them match: the filter says no more than where they are."
		r.warnSkippedTo(ctx, found.Skipped)
		return nil
	}
	a.counted(ctx, found, complete, verb, r)
	return nil
}

// sampleDead adds the first dead letters that match. It returns what was found, and whether
// that is all there is.
func (a *bulkAsk) sampleDead(ctx context.Context, i *taskrt.Inspector, filter taskrt.RunFilter) (found *taskrt.ChangeResult, complete bool, err error) {
	a.SampleTime = "Failed"
	page, err := i.Dead(ctx, filter, taskrt.PageOptions{})
	if err != nil {
		return nil, false, err
	}
	for _, letter := range page.Letters[:min(len(page.Letters), sampled)] {
		row := sampleRow{Ref: newRef(letter.ID, letter.Queue), Queue: letter.Queue, What: string(letter.Failure.Kind) + " " + letter.Failure.Message, At: letter.At}
		if letter.Run != nil {
			row.Task = letter.Run.Task
		}
		a.Sample = append(a.Sample, row)
	}
	found = &taskrt.ChangeResult{Skipped: page.Skipped}
	found.Changed, found.Looked, found.Total = len(page.Letters), page.Looked, page.Total
	return found, page.After == "", nil
}

// sampleRuns does the same with runs.
func (a *bulkAsk) sampleRuns(ctx context.Context, i *taskrt.Inspector, filter taskrt.RunFilter) (found *taskrt.ChangeResult, complete bool, err error) {
	a.SampleTime = "Queued"
	page, err := i.Runs(ctx, filter, taskrt.PageOptions{})
	if err != nil {
		return nil, false, err
	}
	for _, run := range page.Runs[:min(len(page.Runs), sampled)] {
		a.Sample = append(a.Sample, sampleRow{newRef(run.Run.ID, run.Run.Queue), run.Run.Task, run.Run.Queue, string(run.State), run.Run.QueuedAt})
	}
	found = &taskrt.ChangeResult{Skipped: page.Skipped}
	found.Changed, found.Looked, found.Total = len(page.Runs), page.Looked, page.Total
	return found, page.After == "", nil
}

// choosesAll reports whether a filter chooses by queue and state alone.
func choosesAll(f taskrt.RunFilter) bool {
	return f.Task == "" && f.Tag == "" && f.Kind == "" && f.Error == "" && f.Alike == "" && f.Key == "" && len(f.IDs) == 0 && f.Since.IsZero() && f.Before.IsZero()
}

// statesOf narrows the states of a filter to those of runs that a change can be done to.
func statesOf(kind bulk.Kind, f *taskrt.RunFilter) error {
	switch {
	case kind == bulk.RunNow:
		f.States = []taskrt.State{broker.StateDelayed}
	case kind == bulk.Cancel && len(f.States) == 0:
		f.States = []taskrt.State{broker.StateRunning, broker.StateQueued, broker.StateDelayed}
	case kind == bulk.Cancel:
		f.States = slices.DeleteFunc(slices.Clone(f.States), taskrt.State.Ended)
		if len(f.States) == 0 {
			return statusError{http.StatusUnprocessableEntity, errors.New("runs in these states have ended: none of them can be cancelled")}
		}
	}
	return nil
}

func newJobRow(s *bulk.Status, u *access.User) jobRow {
	name, verb := verbOf(s.Kind)
	row := jobRow{
		ID: s.ID, Title: verb.doing, Thing: verb.thing, User: s.User, State: s.State, Running: s.State == bulk.Running, Started: s.Started,
		Changed: s.Changed, Stayed: s.Stayed, Looked: s.Looked, Total: s.Total, Filter: filterFacts(s.Filter), PerSecond: s.PerSecond,
		SkippedCount: len(s.Skipped), Missing: s.Missing[:min(len(s.Missing), 20)], MissingMore: max(len(s.Missing)-20, 0),
	}
	row.Class = map[bulk.State]string{bulk.Running: "s-running", bulk.Done: "s-ok", bulk.Stopped: "s-stopping", bulk.Failed: "s-bad"}[s.State]
	end := s.Ended
	if end.IsZero() {
		end = time.Now()
	}
	row.Took = span(end.Sub(s.Started))
	row.Of = max(s.Total, 1)
	row.Done = min(int64(s.Looked), row.Of)
	if s.State == bulk.Done {
		row.Done = row.Of
	}
	if s.Err != nil {
		row.Err = s.Err.Error()
	}
	row.addStays(s)
	pairs := []string{"do", name}
	for _, f := range s.Filter.Queues {
		pairs = append(pairs, "queue", f)
	}
	for _, state := range s.Filter.States {
		pairs = append(pairs, "state", string(state))
	}
	pairs = append(pairs, "task", s.Filter.Task, "tag", s.Filter.Tag, "kind", string(s.Filter.Kind), "error", s.Filter.Error, "alike", s.Filter.Alike, "key", s.Filter.Key)
	if len(s.Filter.IDs) == 0 && s.Filter.Since.IsZero() && s.Filter.Before.IsZero() {
		row.Again, _ = link("bulk", pairs...)
	}
	if u.Restricted() { // the counts are those of all tasks
		row.Done, row.Of = 100*row.Done/row.Of, 100
		row.Looked = row.Changed + row.Stayed
		row.Total = int64(row.Looked)
	}
	row.MayStop = row.Running && (u.Name == s.User && u.Has(s.Kind.Action()) || u.Allows(s.Kind.Action(), ""))
	return row
}

// addStays groups those that stayed by why, but for ids in it.
func (row *jobRow) addStays(s *bulk.Status) {
	at := make(map[string]int)
	for _, stay := range s.Stays {
		why := text.Fold(stay.Why)
		i, found := at[why]
		if !found {
			i = len(row.Stays)
			at[why] = i
			row.Stays = append(row.Stays, stayRow{Why: stay.Why})
		}
		group := &row.Stays[i]
		if group.Count++; len(group.Refs) < 5 {
			group.Refs = append(group.Refs, newRef(stay.ID, stay.Queue))
		}
	}
	sortRows(row.Stays, func(a, b stayRow) int { return cmp.Compare(b.Count, a.Count) })
	row.MoreStays = s.Stayed - len(s.Stays)
}
