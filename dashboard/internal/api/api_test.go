package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
)

func TestQueueAndWait(t *testing.T) {
	s := newSite(t, nil, nil)
	s.consume(new(tasks.Recorder))
	a := s.want(201, "", "POST", "/tasks/echo/runs?keep=1h", `{"text":"hi","times":2}`)
	id := a.json["id"].(string)
	require.Equal(t, "../../runs/"+id+"?queue=default", a.Header.Get("Location"))
	at, err := a.Request.URL.Parse(a.Header.Get("Location"))
	require.NoError(t, err)
	require.Equal(t, Base+"/runs/"+id, at.Path)
	a = s.want(200, "", "GET", "/runs/"+id+"?wait=30s", "")
	require.Equal(t, "succeeded", a.json["state"], a.text)
	require.Equal(t, "hi", a.json["result"].(map[string]any)["Text"])
	require.Len(t, a.json["history"], 1)
	require.Contains(t, s.log.String(), "action=queue outcome=done status=201")
	require.Contains(t, s.log.String(), "ids=["+id+"]")
	require.NotContains(t, s.log.String(), "hi")
}

// TestNamesThatNoQueueCanHaveAreRefused has some that a broker would store.
func TestNamesThatNoQueueCanHaveAreRefused(t *testing.T) {
	s := newSite(t, nil, nil)
	for _, queue := range []string{"a&b=c", "a#b", "a+b", "a%20b", "a?b/c", "*", "-x", strings.Repeat("q", 129)} {
		for _, path := range []string{"/tasks/echo/runs", "/tasks/echo/runs:batch"} {
			body := `{"text":"hi","times":2}`
			if path != "/tasks/echo/runs" {
				body = "[" + body + "]"
			}
			a := s.want(400, "invalid-request", "POST", path+"?queue="+url.QueryEscape(queue), body)
			require.Contains(t, a.json["detail"], "queue name: ", queue)
		}
	}
}

func TestParametersAreExact(t *testing.T) {
	s := newSite(t, nil, nil)
	sent := `{"a":0.1,"b":"-Infinity"}`
	a := s.want(201, "", "POST", "/tasks/ratio/runs?delay=1h", sent)
	got := s.want(200, "", "GET", "/runs/"+a.json["id"].(string), "")
	require.Contains(t, got.text, `"params":`+sent)
	require.Equal(t, "delayed", got.json["state"])
	a = s.want(201, "", "POST", "/tasks/square/runs", `{"n":"9223372036854775807"}`)
	got = s.want(200, "", "GET", "/runs/"+a.json["id"].(string), "")
	require.Contains(t, got.text, `"params":{"n":"9223372036854775807"}`)
	a = s.want(201, "", "POST", "/tasks/shaped/runs", `{"size":{"Width":1,"Height":2},"list":null,"byName":{"x":1},"best":null,"pair":[3,4],"pause":"1m30s","at":"2026-01-02T03:04:05.123456789Z","blob":"AAEC","text":"<b>"}`)
	got = s.want(200, "", "GET", "/runs/"+a.json["id"].(string), "")
	for _, part := range []string{`"pause":"1m30s"`, `"at":"2026-01-02T03:04:05.123456789Z"`, `"blob":"AAEC"`, `"list":null`} {
		require.Contains(t, got.text, part)
	}
}

func TestParametersInMessagePack(t *testing.T) {
	s := newSite(t, nil, nil)
	payload := codec.AppendInt(codec.AppendString(codec.AppendMapLen(nil, 1), "n"), 7)
	a := s.want(201, "", "POST", "/tasks/square/runs", string(payload), "Content-Type", "application/msgpack")
	require.Contains(t, s.want(200, "", "GET", "/runs/"+a.json["id"].(string), "").text, `"params":{"n":7}`)
	batch := append(codec.AppendArrayLen(nil, 2), append(payload, payload...)...)
	a = s.want(201, "", "POST", "/tasks/square/runs:batch", string(batch), "Content-Type", "application/msgpack")
	require.Len(t, a.json["ids"], 2)
	s.want(400, "invalid-request", "POST", "/tasks/square/runs:batch", string(payload), "Content-Type", "application/msgpack")
	s.want(400, "invalid-request", "POST", "/tasks/square/runs:batch", string(batch)+"x", "Content-Type", "application/msgpack")
	s.want(400, "invalid-parameters", "POST", "/tasks/square/runs", "\xc1", "Content-Type", "application/msgpack")
	bad := append(codec.AppendArrayLen(nil, 2), append(payload, codec.AppendMapLen(nil, 0)...)...)
	a = s.want(400, "invalid-parameters", "POST", "/tasks/square/runs:batch", string(bad), "Content-Type", "application/msgpack")
	require.Equal(t, "/1", a.json["pointer"])
}

func TestWrongParametersAreNamedByPointer(t *testing.T) {
	s := newSite(t, nil, nil)
	for body, pointer := range map[string]string{
		`{"text":"hi","times":2,"more":1}`:          "/more",
		`{"text":"hi"}`:                             "/times",
		`{"text":7,"times":2}`:                      "/text",
		`{"text":"hi","times":9223372036854775808}`: "/times",
		`{"text":"hi","times":2,"times":3}`:         "/times",
		`[]`:                                        "",
		`{"text":`:                                  "/text",
	} {
		a := s.want(400, "invalid-parameters", "POST", "/tasks/echo/runs", body)
		require.Equal(t, pointer, a.json["errors"].([]any)[0].(map[string]any)["pointer"], a.text)
	}
	a := s.want(400, "invalid-parameters", "POST", "/tasks/echo/runs:batch", `[{"text":"hi","times":2},{"text":"hi","times":"x"}]`)
	require.Equal(t, "/1/times", a.json["pointer"])
	a = s.want(400, "invalid-parameters", "POST", "/tasks/login/runs", `{"user":"ada","pin":"CANARY"}`)
	require.NotContains(t, a.text, "CANARY")
	require.NotContains(t, s.log.String(), "CANARY")
	require.Equal(t, int64(0), s.length())
}

// length returns how many runs wait.
func (s *site) length() (n int64) {
	lengths, err := s.broker.QueueLength(s.t.Context())
	require.NoError(s.t, err)
	for _, l := range lengths {
		n += l
	}
	return n
}

func TestOptionsOfARun(t *testing.T) {
	s := newSite(t, nil, nil)
	a := s.want(201, "", "POST", "/tasks/echo/runs?queue=other&priority=high&delay=1h&keep=10m&header=trace=a=b&header=x=1", `{"text":"hi","times":2}`)
	require.Equal(t, "other", a.json["queue"])
	got := s.want(200, "", "GET", "/runs/"+a.json["id"].(string), "")
	require.Equal(t, map[string]any{"trace": "a=b", "x": "1"}, got.json["headers"])
	require.Equal(t, []any{"high", "10m0s", "delayed", "other"}, []any{got.json["priority"], got.json["keep"], got.json["state"], got.json["queue"]})
	s.want(201, "", "POST", "/tasks/echo/runs?at=2035-01-02T15:04:05Z", `{"text":"hi","times":2}`)
	for _, query := range []string{
		"queue=a%20b", "priority=urgent", "delay=-1h", "delay=soon", "at=soon", "at=9999-01-01T00:00:00Z", "delay=1h&at=2035-01-02T15:04:05Z",
		"keep=-1s", "header=x", "header==x", "delay=1h&delay=2h", "dealy=1h", "a;b", "delay=9999999h", "header=x=" + strings.Repeat("a", 2000),
	} {
		s.want(400, "invalid-request", "POST", "/tasks/echo/runs?"+query, `{"text":"hi","times":2}`)
	}
	require.Equal(t, int64(2), s.length())
}

func TestABatchIsQueuedWholeOrNotAtAll(t *testing.T) {
	s := newSite(t, nil, nil)
	a := s.want(201, "", "POST", "/tasks/echo/runs:batch?delay=1h", `[{"text":"a","times":1},{"text":"b","times":1}]`)
	require.Len(t, a.json["ids"], 2)
	s.want(400, "invalid-parameters", "POST", "/tasks/echo/runs:batch", `[{"text":"a","times":1},{"text":"b"}]`)
	s.want(400, "invalid-request", "POST", "/tasks/echo/runs:batch", `{"text":"a","times":1}`)
	s.want(400, "invalid-request", "POST", "/tasks/echo/runs:batch", `[]`, "Idempotency-Key", "k")
	s.want(201, "", "POST", "/tasks/echo/runs:batch", `[]`)
	require.Equal(t, int64(2), s.length())
	a = s.want(409, "duplicate", "POST", "/tasks/recorder_once/runs:batch", `[{"note":"n","n":1},{"note":"n","n":2}]`)
	require.NotEmpty(t, a.json["duplicates"], a.text)
	require.Equal(t, int64(2), s.length())
}

// TestALargeBatchIsRefusedAtItsBound has as many elements as fit into a body, each of which
// would take fifty times its size.
func TestALargeBatchIsRefusedAtItsBound(t *testing.T) {
	s := newSite(t, nil, nil)
	s.want(413, "too-large", "POST", "/tasks/echo/runs:batch", "["+strings.Repeat("0,", broker.MaxRuns)+"0]")
	for _, body := range []string{"null", "[0", "[0]]", "[0] 1", "[,]", "", " "} {
		_, err := elements([]byte(body))
		require.Error(t, err, body)
	}
	all, err := elements([]byte(" [1, {\"a\":[2]} ,null]\n"))
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{json.RawMessage("1"), json.RawMessage(`{"a":[2]}`), json.RawMessage("null")}, all)
	large := []byte("[" + strings.Repeat("0,", maxBody/2-2) + "0]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = elements(large)
	runtime.ReadMemStats(&after)
	require.Error(t, err)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(6*maxBody))
}

func TestRefusalsOfRequests(t *testing.T) {
	s := newSite(t, nil, nil)
	s.want(404, "unknown-task", "POST", "/tasks/none/runs", `{}`)
	s.want(404, "not-found", "GET", "/none", "")
	a := s.want(405, "method-not-allowed", "PUT", "/queues", "")
	require.Equal(t, "GET", a.Header.Get("Allow"))
	s.want(415, "unsupported-type", "POST", "/tasks/echo/runs", `{}`, "Content-Type", "text/plain")
	s.want(415, "unsupported-type", "POST", "/tasks/echo/runs", "", "Content-Type", "")
	s.want(415, "unsupported-type", "POST", "/jobs", `{}`, "Content-Type", "application/msgpack")
	s.want(413, "too-large", "POST", "/tasks/echo/runs", `{"text":"`+strings.Repeat("a", maxBody)+`","times":1}`)
	s.want(413, "too-large", "POST", "/tasks/echo/runs", `{"text":"`+strings.Repeat("a", 2<<20)+`","times":1}`)
	s.want(404, "no-run", "GET", "/runs/none", "")
	s.want(404, "no-run", "DELETE", "/runs/none", "")
	s.want(400, "invalid-request", "GET", "/runs/a%20b", "")
	s.want(400, "invalid-request", "GET", "/runs?stat=failed", "")
	s.want(400, "invalid-request", "GET", "/runs?after=nonsense", "")
	s.want(400, "invalid-request", "GET", "/runs?limit=100000", "")
	s.want(400, "invalid-request", "GET", "/runs?tag=none", "")
	s.want(400, "invalid-request", "GET", "/dead?state=failed", "")
	s.want(400, "invalid-request", "GET", "/tallies?from=99h", "")
	s.want(404, "no-job", "GET", "/jobs/none", "")
	s.want(404, "no-schedule", "GET", "/schedules/none", "")
	s.want(404, "no-schedule", "DELETE", "/schedules/none", "")
	s.want(422, "refused", "POST", "/jobs", `{"do":"explode","filter":{},"all":true}`)
	s.want(400, "invalid-request", "POST", "/jobs", `{"do":"cancel","filter":{}}`)
	s.want(400, "invalid-request", "POST", "/jobs", `{"do":"cancel","filer":{}}`)
	s.want(400, "invalid-request", "POST", "/jobs", `{"do":"cancel"} {}`)
	s.want(400, "invalid-request", "POST", "/jobs", `{"do":7}`)
}

func TestADuplicateNamesTheRunInTheWay(t *testing.T) {
	s := newSite(t, nil, nil)
	first := s.want(201, "", "POST", "/tasks/recorder_once/runs?delay=1h", `{"note":"n","n":1}`)
	a := s.want(409, "duplicate", "POST", "/tasks/recorder_once/runs", `{"note":"n","n":2}`)
	require.Equal(t, first.json["id"], a.json["id"])
	require.Equal(t, "default", a.json["queue"])
	a = s.want(409, "duplicate", "POST", "/tasks/recorder_once/runs", `{"note":"n","n":2}`, "Idempotency-Key", "key")
	require.Equal(t, first.json["id"], a.json["id"])
}

func TestRunsOfALiveQueue(t *testing.T) {
	s := newSite(t, nil, nil)
	for i := range 5 {
		s.want(201, "", "POST", "/tasks/echo/runs?delay=1h", fmt.Sprintf(`{"text":"%d","times":1}`, i), "Idempotency-Key", fmt.Sprintf("run-%d", i))
	}
	a := s.want(200, "", "GET", "/runs?task=echo&state=delayed&limit=3", "")
	require.Len(t, a.json["runs"], 3)
	require.Equal(t, float64(5), a.json["total"])
	a = s.want(200, "", "GET", "/runs?task=echo&state=delayed&limit=3&after="+a.json["after"].(string), "")
	require.Len(t, a.json["runs"], 2)
	a = s.want(200, "", "DELETE", "/runs/run-1", "")
	require.Equal(t, "ended", a.json["outcome"])
	require.Contains(t, s.log.String(), "ids=[run-1]")
	s.want(404, "no-run", "DELETE", "/runs/run-1", "")
	a = s.want(200, "", "POST", "/jobs", `{"do":"cancel","filter":{"task":"echo"},"dry_run":true}`)
	require.Equal(t, float64(4), a.json["matched"])
	a = s.want(200, "", "POST", "/jobs?wait=30s", `{"do":"cancel","filter":{"task":"echo","ids":["run-2","run-9"]}}`)
	require.Equal(t, []any{"done", float64(1), []any{"run-9"}}, []any{a.json["state"], a.json["changed"], a.json["missing"]})
	a = s.want(200, "", "GET", "/"+a.Header.Get("Location"), "")
	require.Equal(t, "done", a.json["state"])
	require.Len(t, s.want(200, "", "GET", "/jobs", "").json["jobs"], 1)
	s.want(200, "", "DELETE", "/jobs/"+a.json["id"].(string), "")
	a = s.want(200, "", "GET", "/queues", "")
	require.Contains(t, a.text, `"queue":"default","queued":0,"held":0,"delayed":3`)
}

func TestDeadLetters(t *testing.T) {
	s := newSite(t, nil, nil)
	s.consume(new(tasks.Recorder))
	a := s.want(201, "", "POST", "/tasks/half/runs?keep=1h", `{"n":3}`)
	id := a.json["id"].(string)
	a = s.want(200, "", "GET", "/runs/"+id+"?wait=30s", "")
	require.Equal(t, "failed", a.json["state"], a.text)
	a = s.want(200, "", "GET", "/dead?task=half", "")
	require.Contains(t, a.text, id)
	a = s.want(200, "", "POST", "/dead/requeue?wait=30s", `{"filter":{"ids":["`+id+`"]}}`)
	require.Equal(t, float64(1), a.json["changed"], a.text)
	require.Equal(t, "../jobs/"+a.json["id"].(string), a.Header.Get("Location"))
	s.want(200, "", "GET", "/runs/"+id+"?wait=30s", "")
	a = s.want(200, "", "POST", "/dead/delete?wait=30s", `{"filter":{"task":"half"}}`)
	require.Equal(t, float64(1), a.json["changed"], a.text)
	require.Empty(t, s.want(200, "", "GET", "/dead?task=half", "").json["runs"])
}

func TestOperate(t *testing.T) {
	s := newSite(t, nil, nil)
	s.want(200, "", "POST", "/queues/mail/pause", "")
	require.Equal(t, true, s.want(200, "", "GET", "/queues/mail", "").json["paused"])
	s.want(200, "", "POST", "/queues/mail/resume", "")
	require.Equal(t, false, s.want(200, "", "GET", "/queues/mail", "").json["paused"])
	s.want(400, "invalid-request", "POST", "/queues/a%20b/pause", "")
	require.Contains(t, s.want(404, "not-found", "POST", "/queues/mial/pause", "").text, "GET queues lists them")
	s.want(404, "not-found", "POST", "/queues/mial/resume", "")
	s.want(404, "not-found", "GET", "/queues/mial", "")
	s.want(200, "", "POST", "/tasks/recorder_mail/disable", "")
	require.Equal(t, []any{"recorder_mail"}, s.want(200, "", "GET", "/queues/mail", "").json["disabled"])
	s.want(200, "", "POST", "/tasks/recorder_mail/enable?queue=mail", "")
	require.Empty(t, s.want(200, "", "GET", "/queues/mail", "").json["disabled"])
	require.NotEmpty(t, s.want(200, "", "GET", "/tasks", "").json["tasks"])
	require.Equal(t, "mail", s.want(200, "", "GET", "/tasks/recorder_mail", "").json["queue"])
	s.want(200, "", "GET", "/instances?role=consumer", "")
	s.want(200, "", "GET", "/tallies?from=1h&queue=mail", "")
	s.want(200, "", "GET", "/", "")
	for _, part := range []string{"action=pause", "paused=true", "paused=false", "action=disable", "task=recorder_mail"} {
		require.Contains(t, s.log.String(), part)
	}
}

func TestSchedules(t *testing.T) {
	s := newSite(t, nil, nil)
	a := s.want(201, "", "PUT", "/schedules/report-1?queue=other", `{"task":"echo","rule":"0 9 * * mon","zone":"Europe/Rome","params":{"text":"hi","times":1},"priority":"low"}`)
	require.Equal(t, []any{"report-1", "other", "echo"}, []any{a.json["id"], a.json["queue"], a.json["task"]})
	a = s.want(200, "", "GET", "/schedules/report-1?queue=other", "")
	require.Equal(t, []any{"0 9 * * mon", "Europe/Rome"}, []any{a.json["rule"], a.json["zone"]})
	a = s.want(201, "", "POST", "/schedules", `{"task":"echo","rule":"@every 10m","params":{"text":"hi","times":1}}`)
	require.Len(t, s.want(200, "", "GET", "/schedules?task=echo", "").json["schedules"], 2)
	s.want(204, "", "DELETE", "/schedules/"+a.json["id"].(string), "")
	s.want(404, "no-schedule", "DELETE", "/schedules/"+a.json["id"].(string), "")
	s.want(404, "no-schedule", "GET", "/schedules/report-1", "")
	for body, code := range map[string]string{
		`{"task":"none","rule":"@every 10m"}`:                                                             "unknown-task",
		`{"task":"echo","rule":"@every 10m"}`:                                                             "invalid-parameters",
		`{"task":"echo","rule":"whenever","params":{"text":"hi","times":1}}`:                              "refused",
		`{"task":"echo","rule":"@every 10m","zone":"Mars/Base","params":{"text":"a","times":1}}`:          "refused",
		`{"task":"echo","rule":"@every 10m","at":"2030-01-01T00:00:00Z","params":{"text":"a","times":1}}`: "invalid-request",
	} {
		require.Equal(t, code, s.do("POST", "/schedules", body).json["code"], body)
	}
	a = s.want(400, "invalid-parameters", "POST", "/schedules", `{"task":"echo","rule":"@every 10m","params":{"text":"hi","times":"x"}}`)
	require.Equal(t, "/params/times", a.json["pointer"])
	s.want(409, "duplicate", "PUT", "/schedules/report-1?queue=other", `{"task":"square","rule":"@every 10m","params":{"n":1}}`)
}

func TestSecretsAreNotShown(t *testing.T) {
	s := newSite(t, nil, nil)
	canary := base64.StdEncoding.EncodeToString([]byte("CANARY-BYTES"))
	a := s.want(201, "", "POST", "/tasks/leak/runs?delay=1h", `{"how":"not","text":"CANARY","key":"AAAAAAAAAAA=","raw":"`+canary+`","pin":4711471147,"ratio":0.4711,"who":{"User":"CANARY","Tokens":null,"Born":"2026-01-02T03:04:05Z","From":""},"amount":"47114711"}`)
	id := a.json["id"].(string)
	all := a.text
	for _, path := range []string{"/runs/" + id, "/runs", "/queues", "/events?queue=none&run=" + id} {
		all += s.do("GET", path, "").text
	}
	all += s.do("DELETE", "/runs/"+id, "").text + s.log.String()
	require.Contains(t, all, `"text":"***"`)
	for _, secret := range []string{"CANARY", canary, "4711"} {
		require.NotContains(t, all, secret)
	}
}

// fullBroker refuses runs.
type fullBroker struct {
	*memory.Broker
	err error
}

func (b *fullBroker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if b.err != nil {
		return fmt.Errorf("queue runs: %w", b.err)
	}
	return b.Broker.QueueTasks(ctx, runs...)
}

// A run may be where nothing could be read: 404 would have who waits for it give up.
func TestNothingIsMissingWhileTheBrokerIsAway(t *testing.T) {
	m := memory.New()
	s := newSite(t, m, nil)
	s.want(404, "no-run", "GET", "/runs/mine", "")
	require.NoError(t, m.Close())
	a := s.want(503, "unavailable", "GET", "/runs/mine", "")
	require.NotEmpty(t, a.Header.Get("Retry-After"))
}

func TestAFieldThatIsUnknownNamesThoseThatAreKnown(t *testing.T) {
	s := newSite(t, nil, nil)
	a := s.want(400, "invalid-request", "POST", "/jobs", `{"do":"cancel","filter":{"state":"delayed"}}`)
	require.Contains(t, a.json["detail"], `"state"; known are do, filter (states, queues, task, `)
	require.Contains(t, a.json["detail"], "), all, dry_run, per_second")
}

func TestABrokerThatRefuses(t *testing.T) {
	m := memory.New()
	t.Cleanup(func() { _ = m.Close() })
	b := &fullBroker{Broker: m}
	s := newSite(t, b, nil)
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{broker.ErrQueueFull, 503, "queue-full"}, {broker.ErrUnavailable, 503, "unavailable"}, {broker.ErrClosed, 503, "unavailable"},
		{broker.ErrOutcomeUnknown, 504, "outcome-unknown"}, {fmt.Errorf("WRONGTYPE CANARY"), 500, "internal"},
	} {
		b.err = c.err
		for _, path := range []string{"/tasks/echo/runs", "/tasks/echo/runs:batch"} {
			body := `{"text":"a","times":1}`
			if strings.HasSuffix(path, "batch") {
				body = "[" + body + "]"
			}
			a := s.want(c.status, c.code, "POST", path, body)
			require.Equal(t, c.status == 503, a.Header.Get("Retry-After") != "", path)
			require.NotContains(t, a.text, "CANARY")
			if c.status == 504 {
				require.NotEmpty(t, a.json["id"])
				require.Equal(t, "default", a.json["queue"])
			}
		}
		a := s.want(c.status, c.code, "POST", "/tasks/echo/runs", `{"text":"a","times":1}`, "Idempotency-Key", "mine")
		if c.status == 504 {
			require.Equal(t, "mine", a.json["id"])
		}
	}
	b.err = broker.ErrNotReplicated
	a := s.want(201, "", "POST", "/tasks/echo/runs", `{"text":"a","times":1}`)
	require.NotEmpty(t, a.json["warning"])
	require.Contains(t, s.log.String(), "WRONGTYPE")
}

func TestStreamsThatAreRefused(t *testing.T) {
	s := newSite(t, nil, nil)
	s.want(404, "no-run", "GET", "/events?run=none", "")
	s.want(400, "invalid-request", "GET", "/events?"+strings.Repeat("run=a&", maxWatched)+"run=b", "")
	s.want(400, "invalid-request", "GET", "/events?run=a&queue=a&queue=b", "")
}

func TestDocuments(t *testing.T) {
	s := newSite(t, nil, nil)
	a := s.want(200, "", "GET", "/openapi.json", "")
	require.Equal(t, "3.1", a.json["openapi"].(string)[:3])
	paths := a.json["paths"].(map[string]any)
	require.Contains(t, paths, "/tasks/echo/runs")
	require.Contains(t, paths, "/runs/{id}")
	require.Contains(t, a.text, "queueEchoBatch")
	a = s.want(200, "", "GET", "/asyncapi.json", "")
	require.Contains(t, a.json, "asyncapi")
}
