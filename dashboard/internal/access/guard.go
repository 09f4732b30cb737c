package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
)

// GuardConfig configures a [Guard].
type GuardConfig struct {
	Finder  Finder                     // nil: Local
	Logger  *slog.Logger               // nil: slog.Default()
	NamesOf func(task string) []string // all names of a task; nil: it has no others
	Hosts   []string                   // names that a proxy on this machine serves

	// Refuse replies to a request that is refused, with the status. Nil: in JSON below
	// /api/, and as a line of text elsewhere.
	Refuse func(w http.ResponseWriter, r *http.Request, status int, why string)
}

// Guard stands in front of all handlers of the dashboard. It finds the user, refuses requests
// that other sites have a browser send, sets the headers that bound what a browser does with
// a reply, limits requests, and logs a line for each that may write.
type Guard struct {
	GuardConfig
	crossOrigin *http.CrossOriginProtection
	rates       rates
	refused     refusals
	bodyTime    time.Duration // for a body to arrive
}

// NewGuard returns a guard.
func NewGuard(cfg GuardConfig) *Guard {
	if cfg.Finder == nil {
		cfg.Finder = Local{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if f, ok := cfg.Finder.(interface{ SetLogger(*slog.Logger) }); ok {
		f.SetLogger(cfg.Logger)
	}
	if cfg.Refuse == nil {
		cfg.Refuse = Refuse
	}
	return &Guard{GuardConfig: cfg, crossOrigin: http.NewCrossOriginProtection(), bodyTime: 30 * time.Second, rates: rates{now: time.Now, users: make(map[string]*rate)}}
}

const (
	maxURL     = 16 << 10 // bytes of the path and query
	maxHeaders = 64 << 10 // bytes of all headers
	maxBody    = 8 << 20  // bytes of a body; handlers may allow fewer
)

// csp is the strictest policy with which pages work: files of the dashboard alone, nothing
// inline.
const csp = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// setHeaders sets what all replies have. A handler may allow that its own is stored.
func setHeaders(h http.Header) {
	for name, value := range map[string]string{
		"Content-Security-Policy":      csp,
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cache-Control":                "no-store",
	} {
		h.Set(name, value)
	}
}

// Wrap returns a handler that lets a request pass to the next one if its user is known. Paths
// are those behind the prefix.
func (g *Guard) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		if status, why := checkShape(r); status != 0 {
			g.Refuse(w, r, status, why)
			return
		}
		if len(g.Hosts) > 0 {
			r = r.WithContext(context.WithValue(r.Context(), hostsKey, g.Hosts))
		}
		u, err := g.Finder.Find(r)
		if err != nil || u == nil {
			g.refuseUser(w, r, err)
			return
		}
		u = u.withTasks(g.NamesOf)
		if isRead(r) {
			g.pass(w, r, u, next)
			return
		}
		entry, sw := newEntry(), &statusWriter{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), entryKey, entry))
		status := http.StatusInternalServerError // if the handler panics
		defer func() { g.audit(r, u, entry, status) }()
		g.pass(sw, r, u, next)
		if status = sw.status; status == 0 {
			status = http.StatusOK
		}
	})
}

// pass has the next handler serve a request of a user, or refuses it.
func (g *Guard) pass(w http.ResponseWriter, r *http.Request, u *User, next http.Handler) {
	if isForeign(r) || g.crossOrigin.Check(r) != nil {
		g.Refuse(w, r, http.StatusForbidden, "another site may not send this request")
		return
	}
	if wait := g.rates.take(u); wait > 0 {
		w.Header().Set("Retry-After", RetryAfter(wait))
		g.Refuse(w, r, http.StatusTooManyRequests, fmt.Sprintf("user %.64q may send %d requests a second", u.Name, u.PerSecond))
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		// Not all servers, and no recorder of a test, have deadlines.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.bodyTime))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), userKey, u)))
}

// isRead reports whether a request may not change anything.
func isRead(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// isForeign reports whether a page of another site has a browser send a request that is not
// the following of a link.
func isForeign(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// checkShape returns the status for requests that no client of the dashboard sends.
func checkShape(r *http.Request) (status int, why string) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	default:
		return http.StatusMethodNotAllowed, "the method is none of GET, HEAD, POST, PUT, PATCH and DELETE"
	}
	if len(r.URL.RequestURI()) > maxURL {
		return http.StatusRequestURITooLong, fmt.Sprintf("the address has more than %d bytes", maxURL)
	}
	n := 0
	for name, values := range r.Header {
		for _, value := range values {
			n += len(name) + len(value)
		}
	}
	if n > maxHeaders {
		return http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the headers have more than %d bytes", maxHeaders)
	}
	// A path that names the same by a detour could pass a proxy that restricts paths.
	p := r.URL.Path
	if clean := path.Clean("/" + p); p != "" && p != clean && p != clean+"/" || strings.ContainsAny(p, "\\\x00") {
		return http.StatusNotFound, "not found; the path has a part that is empty, . or .."
	}
	return 0, ""
}

// refuseUser replies to a request without a user.
func (g *Guard) refuseUser(w http.ResponseWriter, r *http.Request, err error) {
	if err == nil {
		err = ErrNoUser
	}
	if r.Header.Get("Authorization") != "" || !errors.Is(err, ErrNoUser) {
		g.refused.log(g.Logger, r, err)
	}
	if !errors.Is(err, ErrNoUser) {
		g.Refuse(w, r, http.StatusForbidden, err.Error())
		return
	}
	if c, ok := g.Finder.(Challenger); ok {
		for _, value := range c.Challenge() {
			w.Header().Add("WWW-Authenticate", value)
		}
	}
	if r.Header.Get("Authorization") != "" {
		g.Refuse(w, r, http.StatusUnauthorized, "no user has this token, or this name with this password")
		return
	}
	g.Refuse(w, r, http.StatusUnauthorized, ErrNoUser.Error())
}

// refusals logs that requests had no user, once a second at most: anybody can send them.
type refusals struct {
	mu   sync.Mutex
	last time.Time
	more int // since the last line
}

func (f *refusals) log(logger *slog.Logger, r *http.Request, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.more++
	if now := time.Now(); now.Sub(f.last) >= time.Second {
		logger.Warn("dashboard refused a request", "remote", r.RemoteAddr, "reason", err, "requests", f.more)
		f.last, f.more = now, 0
	}
}

// Refuse replies that a request is refused: in JSON below /api/, and else as a line of text.
func Refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		WriteProblem(w, Problem{Status: status, Detail: why, More: map[string]any{"code": codeOf(status)}})
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, why+"\n")
}

// codeOf returns the code of a refusal, as the API documents them.
func codeOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "no-user"
	case http.StatusForbidden:
		return "denied"
	case http.StatusNotFound:
		return "not-found"
	case http.StatusMethodNotAllowed:
		return "method-not-allowed"
	case http.StatusTooManyRequests:
		return "too-many-requests"
	}
	return "invalid-request"
}

// Problem is what RFC 9457 says of a request that was not done.
type Problem struct {
	Type   string `json:"type,omitempty"` // a relative reference; empty: the status says it
	Title  string `json:"title"`          // empty: the text of the status
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`

	More map[string]any `json:"-"` // further members
}

// WriteProblem replies with a problem.
func WriteProblem(w http.ResponseWriter, p Problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	all := map[string]any{"title": p.Title, "status": p.Status}
	for name, value := range p.More {
		all[name] = value
	}
	if p.Type != "" {
		all["type"] = p.Type
	}
	if p.Detail != "" {
		all["detail"] = p.Detail
	}
	b, err := json.Marshal(all)
	if err != nil {
		b = []byte("{}")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(b, '\n'))
}

// RetryAfter returns the value of the header for a wait, in whole seconds and at least one.
func RetryAfter(wait time.Duration) string {
	return strconv.Itoa(int(max(1, math.Ceil(wait.Seconds()))))
}

// Stream lets a reply go on for as long as the client reads it: the server's own limits of
// time are those of single requests. The caller calls the function it returns before each
// write, which may take as long as that.
func Stream(w http.ResponseWriter, write time.Duration) (extend func()) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Time{})
	extend = func() { _ = c.SetWriteDeadline(time.Now().Add(write)) }
	extend()
	return extend
}
