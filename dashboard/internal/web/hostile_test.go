package web

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
)

// owned is text that would be a tag or an attribute wherever it is not escaped.
const owned = `"'><x-owned onload=alert(1)>` + "\u202e"

// TestHostileTextIsText has it in each field that others fill, and in each value of an address.
func TestHostileTextIsText(t *testing.T) {
	b := newBroker(t)
	ctx := t.Context()
	queue, id := `"'><x-owned>`, `"'><x-owned/x>`
	run := newRun(id, `"'><x-owned>`, queue)
	run.Headers, run.ParentID, run.RootID, run.Keep = map[string]string{owned: owned}, id, id, time.Hour
	run.Rules = &broker.Rules{Unique: id, Limits: []broker.Limit{{Key: id, Max: 1}}, Fair: id}
	run.Payload = append([]byte{0x81, 0xa1, 'a', 0xd9, byte(len(owned))}, owned...)
	require.NoError(t, b.QueueTasks(ctx, run))
	failure := &broker.Failure{Kind: broker.FailureKind("<x-owned>"), Message: owned, Stack: "signal: " + owned + ", " + owned + "\n\n" + owned}
	history := &broker.History{Attempts: []broker.Attempt{{Started: time.Now(), Took: time.Second, Host: owned, Kind: "<x-owned>", Message: owned}}}
	end(t, b, queue, broker.Outcome{Run: &broker.TaskRun{Attempt: 1, History: history}, Verdict: broker.Dead, Failure: failure})

	again := newRun(id+"2", `"'><x-owned>`, queue)
	again.Keep, again.History, again.Attempt = time.Hour, history, 1
	require.NoError(t, b.QueueTasks(ctx, again))
	s, err := b.OpenSession(ctx, time.Minute)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.WithoutCancel(ctx))) })
	runs, err := s.Take(ctx, broker.Want{Queues: []string{queue}, IO: 1})
	require.NoError(t, err)
	_, err = s.(broker.Heartbeater).Heartbeat(ctx, broker.Report{
		Progress: []broker.ProgressReport{{Run: runs[0], Progress: broker.Progress{Done: 1, Total: 2, Note: owned}}},
		Last:     []broker.LastRun{{Queue: queue, Task: `"'><x-owned>`, ID: id, Started: time.Now(), Failure: "<x-owned>"}},
	})
	require.NoError(t, err)
	require.NoError(t, b.Disable(ctx, queue, `"'><x-owned>`, true))
	require.NoError(t, b.Announce(ctx, &broker.Instance{ID: "1", Role: broker.RoleConsumer, Host: owned, Version: owned, Address: owned, Session: s.ID(), Started: time.Now(), Queues: map[string]int{queue: 7}}))
	tally := broker.Tally{Queue: queue, Task: `"'><x-owned>`, Minute: time.Now(), Succeeded: 1, Dead: 1}
	tally.Times.Observe(time.Second)
	require.NoError(t, b.AddTallies(ctx, []broker.Tally{tally}))

	require.NoError(t, b.PutSchedule(ctx, &broker.Schedule{ID: id, Spec: owned, Zone: "<x-owned>", Run: &broker.TaskRun{ID: id, Task: `"'><x-owned>`, Queue: queue}}))

	h := newSite(t, b, tasks.Tasks(nil)...)
	q := url.QueryEscape
	addresses := []string{
		"run?id=" + q(id) + "&queue=" + q(queue), "run?id=" + q(id+"2") + "&queue=" + q(queue), "queue?name=" + q(queue), "dead?list=1",
		"runs?state=" + q(owned), "runs?queue=" + q(owned), "runs?after=" + q(owned), "queues?name=" + q(owned), "payload?id=" + q(owned) + "&queue=" + q(owned),
		q(owned), "run?id=" + q(owned), "act", "events?page=" + q(owned),
		"group?run=" + q(id) + "&queue=" + q(queue), "group?run=" + q(id+"2") + "&queue=" + q(queue), "group?run=" + q(owned), "group?id=" + q(owned) + "&queue=" + q(queue), "group?id=" + q(id) + "&queue=" + q(owned),
		"bulk?do=retry&queue=" + q(queue), "bulk?do=cancel&queue=" + q(queue), "bulk?do=delete&alike=" + q(owned), "bulk?do=" + q(owned), "bulk?job=" + q(owned),
		"schedules?only=" + q(owned), "limits?queue=" + q(owned), "limits?queue=" + q(queue), "dead?list=1&alike=" + q(owned), "dead?queue=" + q(queue),
		"task?name=echo&from=" + q(id) + "&fromqueue=" + q(queue), "task?name=login&from=" + q(owned) + "&fromqueue=" + q(owned), "tasks?name=" + q(owned) + "&kind=" + q(owned) + "&tag=" + q(owned),
	}
	for _, p := range pages {
		filled := url.Values{"did": {owned}, "n": {owned}, "range": {owned}, "sort": {owned}, "from": {owned}}
		for _, name := range []string{"key", "error", "task", "kind", "tag", "since", "before", "alike"} {
			filled.Set(name, owned)
			addresses = append(addresses, p.name+"?name="+q(owned)+"&"+name+"="+q(owned))
		}
		addresses = append(addresses, p.name, p.name+"?"+filled.Encode())
	}
	shows := 0
	for _, address := range addresses {
		html := ask(t, h, address)
		require.NotContains(t, html, "<x-owned", address)
		// A field of a form has what was typed into it.
		require.NotContains(t, regexp.MustCompile(`value="[^"]*"`).ReplaceAllString(html, ""), "\u202e", address)
		shows += strings.Count(html, "x-owned")
	}
	require.Greater(t, shows, 100)
	for _, do := range []string{"pause", "cancel", "retry", "run-now", owned} {
		html := sendAny(t, h, url.Values{"do": {do}, "id": {owned}, "queue": {owned}, "task": {owned}, "run": {owned}, "back": {owned}})
		require.NotContains(t, html, "<x-owned", do)
	}
	form := url.Values{"task": {"labelled"}, "from": {""}, "schedule": {owned}, "job": {owned}, "rate": {owned}, "queue": {owned}, "error": {owned}, "since": {owned}}
	for _, name := range []string{"p:/id", "p:/wait", "p:/dataIDs", "p:/times", "p:/title", "json:/id", "set:/title", "o:queue", "o:delay", "o:at", "o:priority", "o:id", "o:headers"} {
		form.Set(name, owned)
	}
	for _, do := range []string{"queue", "preview", "disable", "enable", "tick", "unschedule", "all-cancel", "all-run-now", "all-retry", "all-delete", "all-stop"} {
		form.Set("do", do)
		html := sendAny(t, h, form)
		require.NotContains(t, html, "<x-owned", do)
		require.NotContains(t, regexp.MustCompile(`(?s)value="[^"]*"|<textarea.*?</textarea>`).ReplaceAllString(html, ""), "\u202e", do)
	}
}

// TestPartsOfAPageAreItsOwn has text that looks like the element which parts are found by.
func TestPartsOfAPageAreItsOwn(t *testing.T) {
	b := newBroker(t)
	run := newRun("1", "t", "q")
	run.Headers = map[string]string{"a": `</live-part><live-part id="owned">x`}
	require.NoError(t, b.QueueTasks(t.Context(), run))
	parts := partsOf(get(t, newSite(t, b), "run?id=1", http.StatusOK))
	require.Contains(t, parts, "state")
	require.Contains(t, parts["state"], "live-part id=&#34;owned")
	require.NotContains(t, parts, "owned")
}
