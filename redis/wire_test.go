package redis_test

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

var updateWire = flag.Bool("update", false, "write what is stored now into testdata/wire")

// The vectors of testdata/wire. What they leave out is zero; times and durations
// are nanoseconds as text, payloads and results are hexadecimal.
type (
	storedRunVector struct {
		Name     string  `json:"name"`
		ReadOnly bool    `json:"read_only,omitempty"` // these bytes are read, but not written
		Key      string  `json:"key"`
		Run      wireRun `json:"run"`
		Hex      string  `json:"hex"`
	}
	recordVector struct {
		Name   string     `json:"name"`
		Record wireRecord `json:"record"`
		Hex    string     `json:"hex"`
	}
	deadVector struct {
		Name string   `json:"name"`
		Dead wireDead `json:"dead"`
		Hex  string   `json:"hex"`
	}
	refusedVector struct {
		Name string `json:"name"`
		Hex  string `json:"hex"`
	}

	wireRun struct {
		ID         string            `json:"id"`
		Task       string            `json:"task"`
		Queue      string            `json:"queue"`
		Kind       broker.Kind       `json:"kind,omitempty"`
		Priority   broker.Priority   `json:"priority,omitempty"`
		QueuedAt   int64             `json:"queued_at,omitempty,string"`
		Due        int64             `json:"due,omitempty,string"`
		Delay      time.Duration     `json:"delay,omitempty,string"`
		Expire     time.Duration     `json:"expire,omitempty,string"`
		Keep       time.Duration     `json:"keep,omitempty,string"`
		KeepParams bool              `json:"keep_params,omitempty"`
		OwnID      bool              `json:"own_id,omitempty"`
		Attempt    int               `json:"attempt,omitempty"`
		Deliveries int               `json:"deliveries,omitempty"`
		ParentID   string            `json:"parent_id,omitempty"`
		RootID     string            `json:"root_id,omitempty"`
		History    []wireAttempt     `json:"history,omitempty"`
		DueAgain   int64             `json:"due_again,omitempty,string"`
		Unique     string            `json:"unique,omitempty"`
		UniqueFor  time.Duration     `json:"unique_for,omitempty,string"`
		Limits     []wireLimit       `json:"limits,omitempty"`
		Fair       string            `json:"fair,omitempty"`
		Headers    map[string]string `json:"headers,omitempty"`
		Payload    string            `json:"payload,omitempty"`
		Links      *wireLinks        `json:"links,omitempty"`
	}
	wireAttempt struct {
		Started int64              `json:"started,omitempty,string"`
		Took    time.Duration      `json:"took,omitempty,string"`
		Host    string             `json:"host,omitempty"`
		Kind    broker.FailureKind `json:"kind,omitempty"`
		Message string             `json:"message,omitempty"`
	}
	wireLinks struct {
		Group      string         `json:"group,omitempty"`
		GroupQueue string         `json:"group_queue,omitempty"`
		Member     int            `json:"member,omitempty"`
		Awaits     *wireGroup     `json:"awaits,omitempty"`
		Members    []wireRun      `json:"members,omitempty"`
		Then       []wireFollowUp `json:"then,omitempty"`
		Returned   int            `json:"returned,omitempty"`
	}
	wireGroup struct {
		ID      string `json:"id"`
		Queue   string `json:"queue"`
		Size    int    `json:"size"`
		Param   string `json:"param,omitempty"`
		Partial bool   `json:"partial,omitempty"`
	}
	wireFollowUp struct {
		Param string  `json:"param,omitempty"`
		Keyed bool    `json:"keyed,omitempty"`
		Run   wireRun `json:"run"`
	}
	wireLimit struct {
		Key string        `json:"key"`
		Max int           `json:"max"`
		Per time.Duration `json:"per,omitempty,string"`
	}
	wireRecord struct {
		State    broker.State  `json:"state"`
		At       int64         `json:"at_ms,omitempty"` // when it is due, when it began, or when it ended
		Task     string        `json:"task"`
		ParentID string        `json:"parent_id,omitempty"`
		Attempt  int           `json:"attempt,omitempty"`
		QueuedAt int64         `json:"queued_at,omitempty,string"`
		History  []wireAttempt `json:"history,omitempty"`
		Payload  string        `json:"payload,omitempty"`
		Result   string        `json:"result,omitempty"`
		Failure  *wireFailure  `json:"failure,omitempty"`
		Host     string        `json:"host,omitempty"`

		Successors []wireRef `json:"successors,omitempty"`
	}
	wireRef struct {
		Queue string `json:"queue"`
		ID    string `json:"id"`
	}
	outboxVector struct {
		Name string   `json:"name"`
		Run  *wireRun `json:"run"`
		Hex  string   `json:"hex"`
	}
	wireFailure struct {
		Kind    string `json:"kind"`
		Message string `json:"message"`
		Stack   string `json:"stack,omitempty"`
	}
	wireDead struct {
		At      int64       `json:"at_ms"`
		Failure wireFailure `json:"failure"`
		Run     wireRun     `json:"run"`
	}
)

func (w *wireRun) run(t *testing.T) *broker.TaskRun {
	var rules *broker.Rules
	if w.Unique != "" || len(w.Limits) > 0 || w.Fair != "" {
		rules = &broker.Rules{Unique: w.Unique, UniqueFor: w.UniqueFor, Fair: w.Fair}
	}
	for _, l := range w.Limits {
		rules.Limits = append(rules.Limits, broker.Limit(l))
	}
	history := historyOf(w.History)
	if w.DueAgain != 0 {
		history.Due = instant(w.DueAgain)
	}
	return &broker.TaskRun{
		ID: w.ID, Task: w.Task, Queue: w.Queue, Kind: w.Kind, Priority: w.Priority,
		QueuedAt: instant(w.QueuedAt), Due: instant(w.Due), Delay: w.Delay, Expire: w.Expire, Keep: w.Keep,
		KeepParams: w.KeepParams, History: history, OwnID: w.OwnID, Attempt: w.Attempt, Deliveries: w.Deliveries,
		ParentID: w.ParentID, RootID: w.RootID, Headers: w.Headers, Payload: unhex(t, w.Payload),
		Rules: rules, Links: w.Links.links(t),
	}
}

// historyOf returns nil for nothing.
func historyOf(attempts []wireAttempt) (history *broker.History) {
	for _, a := range attempts {
		history = history.Add(broker.Attempt{Started: instant(a.Started), Took: a.Took, Host: a.Host, Kind: a.Kind, Message: a.Message})
	}
	return history
}

// instant returns the zero time for 0.
func instant(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func (w *wireLinks) links(t *testing.T) *broker.Links {
	if w == nil {
		return nil
	}
	links := &broker.Links{Group: w.Group, GroupQueue: w.GroupQueue, Member: w.Member, Returned: w.Returned}
	if w.Awaits != nil {
		links.Awaits = broker.Group(*w.Awaits)
	}
	for _, m := range w.Members {
		links.Members = append(links.Members, m.run(t))
	}
	for _, f := range w.Then {
		links.Then = append(links.Then, broker.FollowUp{Param: f.Param, Keyed: f.Keyed, Run: f.Run.run(t)})
	}
	return links
}

func (w *wireRecord) successors() (refs []broker.RunRef) {
	for _, s := range w.Successors {
		refs = append(refs, broker.RunRef(s))
	}
	return refs
}

func (f *wireFailure) failure() *broker.Failure {
	if f == nil {
		return nil
	}
	return &broker.Failure{Kind: broker.FailureKind(f.Kind), Message: f.Message, Stack: f.Stack}
}

// unhex returns nil for nothing.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	if s == "" {
		return nil
	}
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// wireVectors runs check for each vector of a file, on a broker of its own. With
// -update the file then has the bytes that check left in the vectors.
func wireVectors[V any](t *testing.T, file string, name func(*V) string, check func(t *testing.T, b *redis.Broker, c *goredis.Client, v *V)) {
	path := filepath.Join("..", "testdata", "wire", file)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var all []V
	require.NoError(t, json.Unmarshal(text, &all))
	require.NotEmpty(t, all)
	c := raw(t, shared)
	for i := range all {
		t.Run(name(&all[i]), func(t *testing.T) {
			check(t, open(t, shared, redis.Config{}), c, &all[i])
		})
	}
	if !*updateWire {
		return
	}
	lines := make([]string, len(all))
	for i, v := range all {
		var line strings.Builder
		enc := json.NewEncoder(&line)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(v))
		lines[i] = "  " + strings.TrimSpace(line.String())
	}
	require.NoError(t, os.WriteFile(path, []byte("[\n"+strings.Join(lines, ",\n")+"\n]\n"), 0o644))
}

// requireBytes compares what is stored with a vector, or sets the vector to it.
func requireBytes(t *testing.T, want *string, stored string) {
	t.Helper()
	if *updateWire {
		*want = hex.EncodeToString([]byte(stored))
	}
	require.Equal(t, *want, hex.EncodeToString([]byte(stored)))
}

// storedAt returns the entries of a list, or the only member of a sorted set.
func storedAt(t *testing.T, c *goredis.Client, key string) []string {
	t.Helper()
	read := c.LRange
	skip := 0
	if strings.HasSuffix(key, ":delayed") || strings.HasSuffix(key, ":backlogs") {
		read = c.ZRange
	}
	if strings.HasSuffix(key, ":backlogs") {
		skip = 49
	}
	entries, err := read(t.Context(), key, 0, -1).Result()
	require.NoError(t, err)
	for i := range entries {
		entries[i] = entries[i][skip:]
	}
	return entries
}

func TestWireStoredRuns(t *testing.T) {
	t.Parallel()
	wireVectors(t, "stored-runs.json", func(v *storedRunVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *storedRunVector) {
			run := v.Run.run(t)
			key := strings.Replace(v.Key, "taskgen:", prefix(t)+":", 1)
			require.NoError(t, b.QueueTasks(t.Context(), run))
			stored := storedAt(t, c, key)
			require.Len(t, stored, 1, "%s in %s", run.ID, key)
			if v.ReadOnly {
				require.NotEqual(t, v.Hex, hex.EncodeToString([]byte(stored[0])), "these are the bytes that are written")
			} else {
				requireBytes(t, &v.Hex, stored[0])
			}

			// The same bytes, as a program in another language leaves them.
			ready := strings.NewReplacer(":delayed", ":io:1", ":backlogs", ":io:1").Replace(key)
			require.NoError(t, c.Del(t.Context(), key).Err())
			require.NoError(t, c.RPush(t.Context(), ready, unhex(t, v.Hex)).Err())
			got, err := b.GetTaskRuns(within(t, 5*time.Second), []string{run.Queue}, 1)
			require.NoError(t, err)
			require.Len(t, got, 1)
			run.Deliveries++
			if len(got[0].Payload) == 0 {
				got[0].Payload = nil // empty and nil are the same
			}
			require.Equal(t, run, got[0])
		})
}

func TestWireRefused(t *testing.T) {
	t.Parallel()
	wireVectors(t, "refused.json", func(v *refusedVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *refusedVector) {
			bad := string(unhex(t, v.Hex))
			require.NoError(t, c.RPush(t.Context(), prefix(t)+":{q}:io:1", bad).Err())
			require.NoError(t, b.QueueTasks(t.Context(), run("good", "q")))
			got, err := b.GetTaskRuns(within(t, 5*time.Second), []string{"q"}, 1)
			require.NoError(t, err)
			require.Equal(t, []string{"good"}, ids(got))
			dead, err := b.DeadLetters(t.Context(), "q", 10)
			require.NoError(t, err)
			require.Len(t, dead, 1)
			require.Equal(t, broker.FailureSchema, dead[0].Failure.Kind)
			require.True(t, strings.HasSuffix(storedAt(t, c, prefix(t)+":{q}:dead")[0], bad), "its bytes are kept")
		})
}

// takeOne queues a run and takes it.
func takeOne(t *testing.T, b *redis.Broker, r *broker.TaskRun) (broker.Session, *broker.TaskRun) {
	t.Helper()
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	require.NoError(t, b.QueueTasks(t.Context(), r))
	got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{r.Queue}, IO: 1, CPU: 1})
	require.NoError(t, err)
	require.Len(t, got, 1)
	return s, got[0]
}

// finish ends what takeOne took.
func finish(t *testing.T, s broker.Session, o broker.Outcome) {
	t.Helper()
	done, err := s.Finish(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, done.Fenced)
	require.NoError(t, s.Close(t.Context()))
}

// TestWireIsDocumented checks that docs/wire.md names each script and each kind of key.
func TestWireIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/wire.md")
	require.NoError(t, err)
	files, err := filepath.Glob("internal/script/*.lua")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		require.True(t, strings.Contains(string(text), "**`"+filepath.Base(file)+"`**"), "the contract of %s is missing", file)
	}

	// All that a queue goes through, with its keys at each step.
	b, c := open(t, shared, redis.Config{MaxDead: 1}), raw(t, shared)
	kinds := map[string]bool{}
	note := func() {
		for _, key := range keysOf(t, c, prefix(t)) {
			rest, ok := strings.CutPrefix(key, prefix(t)+":{q}:")
			if !ok {
				require.Equal(t, prefix(t)+":queues", key)
				continue
			}
			kind, _, several := strings.Cut(rest, ":")
			if several && !slices.Contains([]string{"io", "cpu", "idle", "wake"}, kind) {
				rest = kind + ":<" // the rest names one thing
			}
			kinds[rest] = true
		}
	}
	for _, priority := range []broker.Priority{broker.Low, broker.Medium, broker.High} {
		for _, kind := range []broker.Kind{broker.IO, broker.CPU} {
			r := run(fmt.Sprintf("%s-%s", priority, kind), "q")
			r.Kind, r.Priority, r.Keep, r.OwnID = kind, priority, time.Hour, true
			r.Rules = &broker.Rules{Unique: r.ID, Fair: "value"}
			r.Rules.Limits = []broker.Limit{{Key: "running", Max: 3}, {Key: "rate", Max: 5, Per: time.Hour}}
			require.NoError(t, b.QueueTasks(t.Context(), r))
		}
	}
	later := run("later", "q")
	later.Delay = time.Hour
	require.NoError(t, b.QueueTick(t.Context(), later, time.Now()))
	note()
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	got, err := s.Take(within(t, 5*time.Second), broker.Want{Queues: []string{"q"}, IO: 3, CPU: 3})
	require.NoError(t, err)
	for _, r := range got[:2] {
		_, err = s.Finish(t.Context(), broker.Outcome{Run: r, Verdict: broker.Dead, Failure: &broker.Failure{Kind: broker.FailureFailed}})
		require.NoError(t, err)
	}
	note()
	require.NoError(t, s.Close(t.Context()))
	require.Greater(t, len(kinds), 15, "%v", kinds)
	for kind := range kinds {
		require.True(t, strings.Contains(string(text), "`"+kind), "the key %s is missing", kind)
	}
}
