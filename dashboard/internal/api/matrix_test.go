package api

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// users are those of the matrix, by the header X-As.
var users = map[string]*access.User{
	"none": access.NewUser("none", access.None, nil, nil), "read": access.NewUser("read", access.Reader, nil, nil),
	"operate": access.NewUser("operate", access.Operator, nil, nil), "admin": access.NewUser("admin", access.Admin, nil, nil),
	"producer": access.NewUser("producer", access.None, []access.Action{access.Queue}, []string{"echo"}),
	"echoes":   access.NewUser("echoes", access.Admin, nil, []string{"echo"}),
	"others":   access.NewUser("others", access.Admin, nil, []string{"half"}),
}

type byHeader struct{}

func (byHeader) Find(r *http.Request) (*access.User, error) {
	if u := users[r.Header.Get("X-As")]; u != nil {
		return u, nil
	}
	return nil, access.ErrNoUser
}

// cell is a request of a route, and who may send it. Of the runs there, "mine" is one of echo.
type cell struct {
	path, body string
	allowed    string // users, and behind a colon the status of a refusal if it is not 403
}

const (
	readers   = "read operate admin"
	operators = "operate admin"
	echoed    = " echoes"
)

// matrix has each route by its id.
var matrix = map[string]cell{
	"index":            {"/", "", "none producer others echoes " + readers},
	"openapi":          {"/openapi.json", "", "none producer others echoes " + readers},
	"asyncapi":         {"/asyncapi.json", "", "none producer others echoes " + readers},
	"listTasks":        {"/tasks", "", readers + echoed + " others"},
	"getTask":          {"/tasks/echo", "", readers + echoed},
	"queue{Task}":      {"/tasks/echo/runs", `{"text":"a","times":1}`, operators + echoed + " producer"},
	"queue{Task}Batch": {"/tasks/echo/runs:batch", `[{"text":"a","times":1}]`, operators + echoed + " producer"},
	"get{Task}Run":     {"/tasks/echo/runs/mine", "", readers + echoed},
	"disableTask":      {"/tasks/echo/disable", "", "admin" + echoed},
	"enableTask":       {"/tasks/echo/enable", "", "admin" + echoed},
	"listRuns":         {"/runs?task=echo", "", readers + echoed},
	"getRun":           {"/runs/mine", "", readers + echoed},
	"cancelRun":        {"/runs/mine", "", operators + echoed},
	"listDead":         {"/dead?task=echo", "", readers + echoed},
	"requeueDead":      {"/dead/requeue?wait=10s", `{"filter":{"task":"echo"}}`, operators + echoed},
	"deleteDead":       {"/dead/delete?wait=10s", `{"filter":{"task":"echo"}}`, "admin" + echoed},
	"listJobs":         {"/jobs", "", readers + echoed + " others"},
	"startJob":         {"/jobs?wait=10s", `{"do":"cancel","filter":{"task":"echo","ids":["none"]}}`, operators + echoed},
	"getJob":           {"/jobs/JOB", "", readers + echoed},
	"stopJob":          {"/jobs/JOB", "", operators + echoed},
	"listQueues":       {"/queues", "", readers + echoed + " others"},
	"getQueue":         {"/queues/mail", "", readers},
	"pauseQueue":       {"/queues/mail/pause", "", operators},
	"resumeQueue":      {"/queues/mail/resume", "", operators},
	"listSchedules":    {"/schedules", "", readers + echoed + " others"},
	"addSchedule":      {"/schedules", `{"task":"echo","rule":"@every 1h","params":{"text":"a","times":1}}`, "admin" + echoed},
	"getSchedule":      {"/schedules/mine", "", readers + echoed},
	"putSchedule":      {"/schedules/mine", `{"task":"echo","rule":"@every 1h","params":{"text":"a","times":1}}`, "admin" + echoed},
	"deleteSchedule":   {"/schedules/mine", "", "admin" + echoed},
	"listInstances":    {"/instances", "", readers},
	"listTallies":      {"/tallies", "", readers + echoed + " others"},
	"events":           {"/events?run=mine", "", readers + echoed},
}

// TestRoutesAndRoles asks each route as each user. A route that is not in the matrix fails.
func TestRoutesAndRoles(t *testing.T) {
	for _, r := range routes {
		require.Contains(t, matrix, r.id, "route %s %s is not in the matrix: say who may ask it", r.Method, r.Path)
	}
	require.Len(t, matrix, len(routes))
	for name := range users {
		s := newSite(t, nil, byHeader{})
		for _, r := range routes {
			s.askRoute(r, name)
		}
	}
	s := newSite(t, nil, byHeader{})
	for _, r := range routes {
		c := matrix[r.id]
		s.want(401, "no-user", r.Method, strings.Replace(c.path, "JOB", "x", 1), c.body)
		s.want(403, "denied", r.Method, strings.Replace(c.path, "JOB", "x", 1), c.body, "X-As", "admin", "Sec-Fetch-Site", "cross-site")
	}
}

// askRoute asks a route as a user of the matrix.
func (s *site) askRoute(r route, name string) {
	s.t.Helper()
	c := matrix[r.id]
	_, err := s.client.QueueTask(s.t.Context(), echo(s.t), echoParams(s.t), taskrt.ID("mine"), taskrt.Keep(time.Hour), taskrt.Delay(time.Hour))
	if !errors.Is(err, taskrt.ErrDuplicate) { // it is there yet
		require.NoError(s.t, err)
	}
	s.want(201, "", "PUT", "/schedules/mine", matrix["putSchedule"].body, "X-As", "admin")
	job := s.want(200, "", "POST", "/jobs?wait=10s", matrix["startJob"].body, "X-As", "echoes").json["id"].(string)
	path := strings.Replace(c.path, "JOB", job, 1)
	allowed := strings.Contains(" "+c.allowed+" ", " "+name+" ")
	if r.stream && allowed {
		s.stream(path, "X-As", name)
		return
	}
	a := s.do(r.Method, path, c.body, "X-As", name)
	isRefused := a.StatusCode == 403 || a.StatusCode == 404
	require.Equal(s.t, allowed, !isRefused, "%s asks %s %s: %d %s", name, r.Method, path, a.StatusCode, a.text)
	if allowed {
		require.Less(s.t, a.StatusCode, 300, "%s asks %s %s: %s", name, r.Method, path, a.text)
	}
}

func echo(t *testing.T) taskrt.Task {
	for _, task := range tasks.Tasks(new(tasks.Recorder)) {
		if task.Name() == "echo" {
			return task
		}
	}
	t.Fatal("the test program has no task echo")
	return taskrt.Task{}
}

func echoParams(t *testing.T) []byte {
	b, err := echo(t).EncodeParams(&tasks.EchoParams{Text: "a", Times: 1})
	require.NoError(t, err)
	return b
}

// TestAUserOfSomeTasksSeesNoOthers has runs of two tasks.
func TestAUserOfSomeTasksSeesNoOthers(t *testing.T) {
	s := newSite(t, nil, byHeader{})
	s.want(201, "", "POST", "/tasks/echo/runs?delay=1h", `{"text":"CANARY","times":1}`, "X-As", "admin", "Idempotency-Key", "echo-CANARY")
	s.want(201, "", "POST", "/tasks/half/runs?delay=1h", `{"n":2}`, "X-As", "admin", "Idempotency-Key", "mine")
	s.want(201, "", "PUT", "/schedules/echo-CANARY", matrix["putSchedule"].body, "X-As", "admin")
	for _, path := range []string{"/", "/tasks", "/runs", "/runs?key=echo", "/runs?id=echo-CANARY", "/dead", "/jobs", "/queues", "/schedules", "/tallies", "/runs/echo-CANARY", "/schedules/echo-CANARY", "/tasks/half/runs/echo-CANARY"} {
		a := s.do("GET", path, "", "X-As", "others")
		text := strings.ReplaceAll(a.text, "GET tasks", "")
		require.NotContains(t, text, "CANARY", path)
		if path != "/" {
			require.NotContains(t, text, `"echo`, path)
		}
	}
	list := s.want(200, "", "GET", "/runs", "", "X-As", "others")
	require.Contains(t, list.text, "mine")
	require.Equal(t, float64(1), list.json["looked"], "it counts the runs of others")
	require.Nil(t, list.json["total"])
	s.want(404, "no-run", "DELETE", "/runs/echo-CANARY", "", "X-As", "others")
	s.want(403, "denied", "POST", "/jobs", `{"do":"cancel","filter":{"ids":["echo-CANARY"]}}`, "X-As", "others")
	a := s.want(200, "", "POST", "/jobs?wait=10s", `{"do":"cancel","filter":{"task":"half","ids":["echo-CANARY"]}}`, "X-As", "others")
	require.Equal(t, float64(0), a.json["changed"])
	require.Equal(t, float64(0), a.json["looked"], "it counts the runs of others")
	taken := s.want(403, "denied", "PUT", "/schedules/echo-CANARY", `{"task":"half","rule":"@every 1h","params":{"n":2}}`, "X-As", "others")
	require.NotContains(t, strings.ReplaceAll(taken.text, "echo-CANARY", ""), "echo", "it names the task of others")
	s.want(404, "no-schedule", "DELETE", "/schedules/echo-CANARY", "", "X-As", "others")
	require.Equal(t, int64(2), s.length())
}

// TestAKeyQueuesOneRun repeats a request from many sides, while a consumer executes the run.
func TestAKeyQueuesOneRun(t *testing.T) {
	b, err := brokerurl.Open(t.Context(), redistest.Start(t).URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	s := newSite(t, b, nil)
	s.consume(new(tasks.Recorder))
	const keys, repeats = 20, 10
	var wg sync.WaitGroup
	created := make([]int, keys)
	var mu sync.Mutex
	for i := range keys * repeats {
		wg.Go(func() {
			key := i % keys
			a := s.do("POST", "/tasks/half/runs", `{"n":2}`, "Idempotency-Key", fmt.Sprintf("key-%d", key))
			mu.Lock()
			defer mu.Unlock()
			switch a.StatusCode {
			case 201:
				created[key]++
			case 200:
			default:
				t.Errorf("key %d: %d %s", key, a.StatusCode, a.text)
			}
		})
	}
	wg.Wait()
	for key, n := range created {
		require.Equal(t, 1, n, "key %d", key)
		a := s.want(200, "", "GET", fmt.Sprintf("/runs/key-%d?wait=30s", key), "")
		require.Equal(t, "succeeded", a.json["state"])
		a = s.want(200, "", "POST", "/tasks/half/runs", `{"n":2}`, "Idempotency-Key", fmt.Sprintf(`"key-%d"`, key))
		require.Equal(t, true, a.json["repeated"])
	}
	require.Zero(t, s.length())
	s.want(201, "", "POST", "/tasks/half/runs?delay=1h", `{"n":2}`, "Idempotency-Key", "later")
	s.want(422, "key-reused", "POST", "/tasks/half/runs?delay=1h", `{"n":4}`, "Idempotency-Key", "later")
	s.want(422, "key-reused", "POST", "/tasks/echo/runs", `{"text":"a","times":1}`, "Idempotency-Key", "later")
	s.want(400, "invalid-request", "POST", "/tasks/half/runs", `{"n":2}`, "Idempotency-Key", "a b")
	s.want(400, "invalid-request", "POST", "/tasks/half/runs", `{"n":2}`, "Idempotency-Key", `""`)
}

// TestEvents follows a run to its end, and the queues as they change.
func TestEvents(t *testing.T) {
	s := newSite(t, nil, nil)
	s.want(201, "", "POST", "/tasks/half/runs", `{"n":2}`, "Idempotency-Key", "one")
	events := s.stream("/events?run=one")
	require.Equal(t, "run", events.next(t, `"state":"queued"`))
	s.consume(new(tasks.Recorder))
	require.Equal(t, "run", events.next(t, `"state":"succeeded"`))
	require.Equal(t, "end", events.next(t, "{}"))
	rest, err := io.ReadAll(events.in)
	require.NoError(t, err)
	require.Equal(t, "\n", string(rest), "the stream goes on")

	queues := s.stream("/events?queue=mail")
	require.Equal(t, "queues", queues.next(t, `"paused":false`))
	s.want(200, "", "POST", "/queues/mail/pause", "")
	require.Equal(t, "queues", queues.next(t, `"paused":true`))
}

// TestAStreamChecksEachLook has another run get the id while a user follows the first.
func TestAStreamChecksEachLook(t *testing.T) {
	s := newSite(t, nil, byHeader{})
	s.want(201, "", "POST", "/tasks/echo/runs?delay=1h", `{"text":"CANARY","times":1}`, "X-As", "admin", "Idempotency-Key", "one")
	s.want(404, "no-run", "GET", "/events?run=one", "", "X-As", "others")
	for _, c := range []struct {
		sees bool
		want string
	}{{true, "event: run"}, {false, "event: gone"}} {
		w := httptest.NewRecorder()
		out := &stream{w: w, extend: func() {}, last: make(map[string][]byte)}
		a := &API{Config: Config{Broker: s.broker}, byName: map[string]taskrt.Task{}}
		_, err := a.sendRuns(t.Context(), out, []refView{{"one", "default"}}, func(string) bool { return c.sees })
		require.NoError(t, err)
		require.Contains(t, w.Body.String(), c.want)
		require.Equal(t, c.sees, strings.Contains(w.Body.String(), `"echo"`), w.Body)
	}
}

// events are those of a stream.
type events struct{ in *bufio.Reader }

func (s *site) stream(path string, headers ...string) *events {
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	s.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.URL+Base+path, nil)
	require.NoError(s.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.server.Client().Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	require.Equal(s.t, "text/event-stream", res.Header.Get("Content-Type"))
	return &events{bufio.NewReader(res.Body)}
}

// next returns the name of the next event with a text in its data.
func (e *events) next(t *testing.T, with string) (name string) {
	for {
		line, err := e.in.ReadString('\n')
		require.NoError(t, err, "no event with %s", with)
		if rest, ok := strings.CutPrefix(line, "event: "); ok {
			name = strings.TrimSpace(rest)
		}
		if strings.HasPrefix(line, "data: ") && strings.Contains(line, with) {
			return name
		}
	}
}

// TestHalfABodyQueuesNothing sends half a body and closes the connection.
func TestHalfABodyQueuesNothing(t *testing.T) {
	s := newSite(t, nil, nil)
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "POST %s/tasks/half/runs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"n\":2}", Base)
	require.NoError(t, err)
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	_, err = io.ReadAll(conn) // the server ends the connection
	require.NoError(t, err)
	require.Zero(t, s.length())
}
