// Package api is the HTTP API of the dashboard: JSON, for programs in any language. Its
// requests have passed a guard of package access.
//
// A route is a row of the table in routes.go, with the action that it needs and what its
// documents say of it, and a method of API. A handler returns its reply as a value, or an
// error: problem.go has the status and the code of each.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/internal/jsonform"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Base is in front of the paths of all routes.
const Base = "/api/v1"

// callTime bounds what a request waits for the broker, beside a wait that it asks for.
const callTime = 20 * time.Second

// Config is what the API is made of. All is required.
type Config struct {
	Broker    broker.Broker
	Inspector *taskrt.Inspector
	Client    *taskrt.Client
	Tasks     []taskrt.Task // in the order of their names
	Jobs      *bulk.Jobs
	Name      string // of the program
	Logger    *slog.Logger
}

// API serves the routes.
type API struct {
	Config
	byName  map[string]taskrt.Task // aliases included
	forms   jsonform.Forms
	keys    keyLocks
	streams *access.Streams // of events that are open
	fleet   look[[]queueView]
	routes  []route
	docs    [2]func() ([]byte, error) // OpenAPI, AsyncAPI; of all tasks
}

// New returns a handler of all paths below [Base].
func New(cfg Config) http.Handler {
	a := &API{Config: cfg, byName: make(map[string]taskrt.Task), streams: access.NewStreams(maxStreams, streamsOfUser), routes: routes}
	for _, t := range cfg.Tasks {
		for _, name := range append([]string{t.Name()}, t.Spec().Aliases...) {
			a.byName[name] = t
		}
	}
	a.keys.locked = make(map[string]*keyLock)
	a.docs = [2]func() ([]byte, error){
		sync.OnceValues(func() ([]byte, error) { return a.describe(a.Tasks) }),
		sync.OnceValues(func() ([]byte, error) { return a.describeRuns(a.Tasks) }),
	}
	mux := http.NewServeMux()
	methods := make(map[string][]string)
	for _, r := range routes {
		mux.Handle(r.Method+" "+Base+r.Path, a.handle(r))
		methods[r.Path] = append(methods[r.Path], r.Method)
	}
	for path, allowed := range methods {
		mux.Handle(Base+path, notAllowed(allowed))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		access.WriteProblem(w, access.Problem{Status: http.StatusNotFound, Detail: "not found; GET api/v1/ lists what there is", More: map[string]any{"code": "not-found"}})
	})
	return mux
}

// notAllowed refuses other methods than those of a path.
func notAllowed(methods []string) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", allow)
		access.WriteProblem(w, access.Problem{Status: http.StatusMethodNotAllowed, Detail: "this is for " + allow, More: map[string]any{"code": "method-not-allowed"}})
	})
}

// reply is what a handler replies with, if it is not status 200 and a value.
type reply struct {
	status int
	header map[string]string
	value  any // nil: no body
}

// streamed is the reply of a handler that has written one.
type streamed struct{}

// handle returns the handler of a route.
func (a *API) handle(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		value, err := a.serve(r, w, req)
		if err != nil {
			a.fail(w, req, r, err)
			return
		}
		if _, done := value.(streamed); !done {
			a.write(w, req, value)
		}
	})
}

// serve checks that the user may do what a route does at all, and calls its handler, which
// checks the task.
func (a *API) serve(r route, w http.ResponseWriter, req *http.Request) (any, error) {
	ctx := req.Context()
	entry := access.EntryOf(ctx)
	entry.Set(r.action, "")
	if u := access.UserOf(ctx); r.action != "" && !u.Has(r.action) {
		return nil, access.Check(ctx, r.action, "")
	}
	if r.stream {
		return r.handler(a, w, req)
	}
	most := callTime
	if wait, err := waitOf(req); err != nil {
		return nil, err
	} else if wait > 0 {
		most += wait
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return r.handler(a, w, req.WithContext(ctx))
}

// write writes a reply.
func (a *API) write(w http.ResponseWriter, req *http.Request, value any) {
	all, ok := value.(reply)
	if !ok {
		all = reply{status: http.StatusOK, value: value}
	}
	for name, text := range all.header {
		w.Header().Set(name, text)
	}
	if all.value == nil {
		w.WriteHeader(all.status)
		return
	}
	b, ok := all.value.(json.RawMessage)
	if !ok {
		var err error
		if b, err = json.Marshal(all.value); err != nil {
			a.Logger.Error("the API cannot write a reply", "path", req.URL.Path, "error", err)
			access.WriteProblem(w, access.Problem{Status: http.StatusInternalServerError, Detail: "the reply has no form in JSON"})
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(all.status)
	_, _ = w.Write(append(b, '\n'))
}

// maxWait is how long a request may wait for the end of a run or job.
const maxWait = time.Minute

// waitOf returns the parameter wait of a request, 0 if there is none.
func waitOf(req *http.Request) (time.Duration, error) {
	text := req.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	d, err := parseDuration("wait", text)
	if err != nil {
		return 0, err
	}
	return min(d, maxWait), nil
}

// task returns the task of a request's path, if its user may do an action with it.
func (a *API) task(req *http.Request, action access.Action) (taskrt.Task, error) {
	name := req.PathValue("task")
	t, ok := a.byName[name]
	if !ok {
		return t, &codedError{http.StatusNotFound, "unknown-task", fmt.Sprintf("no task is named %.64q; GET tasks lists them", name)}
	}
	access.EntryOf(req.Context()).Set(action, t.Name())
	return t, access.Check(req.Context(), action, t.Name())
}

// look is a value that is at most a second old, however many ask for it.
type look[V any] struct {
	mu    sync.Mutex
	at    time.Time
	value V
	err   error
}

// get returns the value. If it is older than a second it is read by the first who asks.
func (l *look[V]) get(read func() (V, error)) (V, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.at) >= time.Second {
		l.value, l.err = read()
		l.at = time.Now()
	}
	return l.value, l.err
}
