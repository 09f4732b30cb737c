// Package web has the pages of the dashboard: HTML that is made on the server, one small
// script for what is live, and forms for what is done.
//
// # How a page is added
//
// A page is a row of the table pages, a Go file and a template of its name. The file has the
// function that makes the view, a plain struct of what the template shows:
//
//	func limitsPage(ctx context.Context, r *request) (any, error) {
//		fleet, err := r.fleet(ctx) // shared with others, at most a second old
//		...
//		return &limitsView{...}, nil
//	}
//
// templates/limits.html defines "content", with the view as .V, and uses the pieces of
// templates/parts.html: badge, when, ref, action, pager, chart, empty. What changes while
// somebody looks stands in <live-part id="…"> elements, which do not nest: the script
// replaces what is in them. A table is class "rows" in a div class "scroll"; with class
// "stack" and data-label on its cells it becomes a list on narrow screens.
//
// All pages are at depth 0, so that each link is relative and works behind any prefix: make
// links with the function link ("run" "id" .ID "queue" .Queue). A page changes nothing. What
// people do is a POST to act, see the table acts; {{template "action" ($.Do "pause" "Pause" "queue" .Name)}}
// is a button for it, which shows nothing to a user who may not.
//
// An error of the function is a page that says so; wrap one in notFound for status 404. What
// could not be read beside what is shown goes to r.warn. Tests are in pages_test.go: newSite
// and get.
package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/bulk"
	"github.com/taskgen/taskgen/dashboard/internal/live"
	"github.com/taskgen/taskgen/internal/jsonform"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Config is what pages are made of. All of it is required.
type Config struct {
	Broker    broker.Broker
	Inspector *taskrt.Inspector
	Client    *taskrt.Client
	Tasks     []taskrt.Task // in the order of their names
	Jobs      *bulk.Jobs    // changes of all that match
	Name      string        // of the program
	Logger    *slog.Logger
}

// page is one page.
type page struct {
	name  string // its path; also that of its template
	title string
	group string // of the navigation; empty: it is not there
	view  func(ctx context.Context, r *request) (any, error)
}

// pages are all pages, in the order of the navigation.
var pages = []page{
	{"", "Overview", "Now", overviewPage},
	{"runs", "Runs", "Now", runsPage},
	{"queues", "Queues", "Now", queuesPage},
	{"dead", "Dead letters", "Now", deadPage},
	{"schedules", "Schedules", "Now", schedulesPage},
	{"limits", "Limits", "Now", limitsPage},
	{"consumers", "Consumers", "Now", consumersPage},
	{"run", "Run", "", runPage},
	{"queue", "Queue", "", queuePage},
	{"group", "Group", "", groupPage},
	{"bulk", "Changes of all that match", "", bulkPage},
	{"tasks", "Tasks", "Program", tasksPage},
	{"task", "Task", "", taskPage},
}

//go:embed templates assets
var files embed.FS

// site serves the pages. It is used by all requests.
type site struct {
	Config
	pages  map[string]*servedPage
	assets map[string]asset
	looks  looks
	hub    *live.Hub
	views  *access.Streams // those who follow a page
	forms  jsonform.Forms
	deads  *live.Keyed[string, *taskrt.DeadGroups] // by their filters
}

// servedPage is a page with its template.
type servedPage struct {
	page
	template *pageTemplate
}

// New returns the handler of the pages. Paths begin below the dashboard's prefix.
func New(cfg Config) (http.Handler, error) {
	s := &site{Config: cfg, pages: make(map[string]*servedPage)}
	for _, p := range append(pages, errorPage) {
		t, err := newPageTemplate(cmp.Or(p.name, "overview"))
		if err != nil {
			return nil, err
		}
		s.pages[p.name] = &servedPage{p, t}
	}
	var err error
	if s.assets, err = readAssets(); err != nil {
		return nil, err
	}
	s.looks = newLooks(cfg)
	s.deads = newDeadGroups(s)
	s.hub = live.NewHub(time.Second, s.liveParts)
	s.views = access.NewStreams(mostViews, viewsOfUser)
	return s, nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if asset, found := s.assets[name]; found && readOnly(r) {
		asset.serve(w, r)
		return
	}
	switch p := s.pages[name]; {
	case r.URL.Path == "": // mounted without a slash at its end: links would lead beside it
		redirect(w, r, lastSegment(r)+"/")
	case name == "act":
		s.act(w, r)
	case name == "payload" && readOnly(r):
		s.payload(w, r)
	case name == "events" && readOnly(r):
		s.events(w, r)
	case p == nil || name == errorPage.name:
		s.fail(w, r, notFound(errors.New("there is no such page")))
	case !readOnly(r):
		w.Header().Set("Allow", "GET, HEAD")
		s.fail(w, r, statusError{http.StatusMethodNotAllowed, errors.New("this page is only read")})
	default:
		s.show(w, r, p)
	}
}

func readOnly(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// pageTimeout is how long a page may read the broker.
const pageTimeout = 2 * lookTimeout

// show writes a page.
func (s *site) show(w http.ResponseWriter, r *http.Request, p *servedPage) {
	s.showAs(w, r, newRequest(s, r, p), http.StatusOK)
}

func (s *site) showAs(w http.ResponseWriter, r *http.Request, req *request, status int) {
	var out bytes.Buffer
	if err := s.render(r.Context(), &out, req); err != nil {
		s.fail(w, r, err)
		return
	}
	s.write(w, r, status, out.Bytes())
}

// render makes the view of a page and writes it.
func (s *site) render(ctx context.Context, out *bytes.Buffer, r *request) error {
	if !access.UserOf(ctx).Has(access.Read) {
		return statusError{http.StatusForbidden, errors.New("you may not read this")}
	}
	view, err := r.page.view(ctx, r)
	if err != nil {
		return err
	}
	return r.page.template.execute(out, r.layout(ctx, view))
}

// fail writes a page that shows an error.
func (s *site) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.Logger.WarnContext(r.Context(), "a page of the dashboard failed", "page", r.URL.Path, "error", err)
	}
	p := s.pages[errorPage.name]
	req := newRequest(s, r, p)
	view := &failureView{Status: status, Title: http.StatusText(status), Text: err.Error(), Broker: status == http.StatusBadGateway}
	var out bytes.Buffer
	if e := p.template.execute(&out, req.layout(r.Context(), view)); e != nil {
		http.Error(w, err.Error(), status)
		return
	}
	s.write(w, r, status, out.Bytes())
}

func (s *site) write(w http.ResponseWriter, r *http.Request, status int, html []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(html)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(html) // who asked is gone
	}
}

// errorPage shows an error.
var errorPage = page{name: "error", title: "Error"}

type failureView struct {
	Status int
	Title  string
	Text   string
	Broker bool // what the broker was asked for failed
}

// statusError is an error with a status of HTTP.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// notFound has a page answer with status 404.
func notFound(err error) error { return statusError{http.StatusNotFound, err} }

// badRequest has a page answer with status 400.
func badRequest(format string, args ...any) error {
	return statusError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// statusOf returns the status of a page that fails. What has none is the broker's.
func statusOf(err error) int {
	var s statusError
	var denied *access.DeniedError
	switch {
	case errors.As(err, &denied):
		return http.StatusForbidden
	case errors.As(err, &s):
		return s.status
	case errors.Is(err, broker.ErrNoRecord) && errors.Is(err, broker.ErrUnavailable):
		return http.StatusServiceUnavailable // it may be where nothing could be read
	case errors.Is(err, broker.ErrNoRecord):
		return http.StatusNotFound
	case errors.Is(err, broker.ErrAfter):
		return http.StatusBadRequest
	}
	return http.StatusBadGateway
}

// redirect sends who asks to another page. Location is relative: the server does not know
// the prefix that people see.
func redirect(w http.ResponseWriter, r *http.Request, location string) {
	w.Header().Set("Location", location)
	w.Header().Set("Cache-Control", "no-store")
	status := http.StatusSeeOther
	if readOnly(r) {
		status = http.StatusFound
	}
	w.WriteHeader(status)
}

// lastSegment returns the last segment of the path that was asked for.
func lastSegment(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	return "./" + path[strings.LastIndex(path, "/")+1:]
}
