package web

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// request is a page that is asked for.
type request struct {
	site  *site
	page  *servedPage
	path  string     // of the page
	query url.Values // filters and names
	form  *formState // of a form that was sent and is shown again

	asOf     time.Time // of what is shown, if it was read before
	warnings []warning
}

// warning is what a page could not read. The rest is shown.
type warning struct {
	Text string
	More string
}

func newRequest(s *site, r *http.Request, p *servedPage) *request {
	return &request{site: s, page: p, path: strings.TrimPrefix(r.URL.Path, "/"), query: r.URL.Query()}
}

// get returns a value of the query, without space around it.
func (r *request) get(name string) string { return strings.TrimSpace(r.query.Get(name)) }

// all returns the values of the query that are not empty.
func (r *request) all(name string) []string {
	return slices.DeleteFunc(slices.Clone(r.query[name]), func(s string) bool { return strings.TrimSpace(s) == "" })
}

// must returns a value of the query without which the page shows nothing.
func (r *request) must(name string) (string, error) {
	if v := r.get(name); v != "" {
		return v, nil
	}
	return "", badRequest("the address of this page lacks %s=", name)
}

// number returns a number of the query that is within bounds, else or.
func (r *request) number(name string, or, least, most int) int {
	n, err := strconv.Atoi(r.get(name))
	if err != nil || n < least || n > most {
		return or
	}
	return n
}

// warn adds what could not be read.
func (r *request) warn(format string, args ...any) {
	w := warning{Text: fmt.Sprintf(format, args...)}
	if !slices.Contains(r.warnings, w) {
		r.warnings = append(r.warnings, w)
	}
}

// mostWarned is how many skipped queues a page names.
const mostWarned = 5

// warnSkipped adds queues that could not be read.
func (r *request) warnSkipped(skipped []taskrt.Skipped) {
	for i, s := range skipped {
		switch {
		case i == mostWarned:
			r.warn("%d more queues could not be read.", len(skipped)-i)
			return
		case s.Queue == "":
			r.warn("Some queues may be missing: %v", s.Err)
		default:
			r.warn("Queue %s could not be read: %v", s.Queue, s.Err)
		}
	}
}

// url returns the page's own address, relative.
func (r *request) url() string {
	if q := r.query.Encode(); q != "" {
		return r.home() + "?" + q
	}
	return r.home()
}

// home returns the page's address without a query.
func (r *request) home() string {
	if r.path == "" {
		return "./"
	}
	return (&url.URL{Path: r.path}).EscapedPath()
}

// with returns the page's address with some values of the query replaced: pairs of a name
// and a value, of which an empty one removes the name. The page of a list begins anew.
func (r *request) with(pairs ...string) string {
	q := url.Values{}
	for name, values := range r.query {
		q[name] = values
	}
	q.Del("after")
	q.Del("did")
	q.Del("n")
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			q.Del(pairs[i])
		} else {
			q.Set(pairs[i], pairs[i+1])
		}
	}
	if len(q) == 0 {
		return r.home()
	}
	return r.home() + "?" + q.Encode()
}

// link returns the relative address of a page: its name, and pairs of a name and a value of
// the query. Empty values are skipped.
func link(page string, pairs ...string) (string, error) {
	if len(pairs)%2 != 0 {
		return "", fmt.Errorf("make a link to page %s: the names and values are not pairs", page)
	}
	var b strings.Builder
	if page == "" {
		page = "./"
	}
	b.WriteString(page)
	sep := byte('?')
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			continue
		}
		b.WriteByte(sep)
		b.WriteString(url.QueryEscape(pairs[i]) + "=" + url.QueryEscape(pairs[i+1]))
		sep = '&'
	}
	return b.String(), nil
}

// layout is what the layout template shows.
type layout struct {
	request *request
	ctx     context.Context

	Title    string
	App      string
	Nav      []navGroup
	User     string
	URL      string // relative
	Now      time.Time
	AsOf     time.Time // of what is shown, if the broker cannot be read; else zero
	Warnings []warning
	Done     string // what was done by the form before
	V        any    // of the page
}

type navGroup struct {
	Name  string
	Links []navLink
}

type navLink struct {
	Href, Title string
	Current     bool
	Mark        int64 // things that need a person
}

// titled is a view with a title of its own.
type titled interface{ PageTitle() string }

func (r *request) layout(ctx context.Context, view any) *layout {
	l := &layout{
		request: r, ctx: ctx, Title: r.page.title, App: r.site.Name, URL: r.url(), Now: time.Now(), AsOf: r.asOf,
		Warnings: r.warnings, Done: doneText(r.get("did"), r.get("n")), V: view,
	}
	if t, ok := view.(titled); ok {
		l.Title = t.PageTitle()
	}
	if u := access.UserOf(ctx); u != nil {
		l.User = u.Name
	}
	for _, p := range pages {
		if p.group == "" {
			continue
		}
		href := p.name
		if href == "" {
			href = "./"
		}
		n := navLink{Href: href, Title: p.title, Current: p.name == r.page.name}
		if i := len(l.Nav) - 1; i >= 0 && l.Nav[i].Name == p.group {
			l.Nav[i].Links = append(l.Nav[i].Links, n)
		} else {
			l.Nav = append(l.Nav, navGroup{p.group, []navLink{n}})
		}
	}
	return l
}

// With returns the page's address with some values of the query replaced.
func (l *layout) With(pairs ...string) string { return l.request.with(pairs...) }

// May reports whether the user may do an action to runs of a task.
func (l *layout) May(action access.Action, task string) bool {
	return access.UserOf(l.ctx).Allows(action, task)
}

// button is a form of one button.
type button struct {
	Allowed bool
	Do      string
	Label   string
	Back    string
	Class   string
	Confirm string // the question before it is done; empty: none
	Fields  []field
}

type field struct{ Name, Value string }

// Do returns a button for a verb of the table acts, with pairs of a name and a value for
// its form.
func (l *layout) Do(verb, label string, pairs ...string) (*button, error) {
	a, known := acts[verb]
	if !known || len(pairs)%2 != 0 {
		return nil, fmt.Errorf("make a button: %s is no action, or its fields are not pairs", verb)
	}
	b := &button{Do: verb, Label: label, Back: l.URL, Confirm: a.confirm}
	if a.danger {
		b.Class = "danger"
	}
	task := ""
	for i := 0; i < len(pairs); i += 2 {
		b.Fields = append(b.Fields, field{pairs[i], pairs[i+1]})
		if pairs[i] == "task" {
			task = pairs[i+1]
		}
	}
	b.Allowed = l.May(a.action, task)
	return b, nil
}

// Function returns the methods that templates call.
func (l *layout) Function(name string) any {
	switch name {
	case "Do":
		return l.Do
	case "May":
		return l.May
	case "With":
		return l.With
	}
	return nil
}
