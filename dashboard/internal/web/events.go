package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/live"
)

const (
	streamFor = 10 * time.Minute // a stream goes on for so long; the browser opens another
	beat      = 15 * time.Second // a comment is sent, so that proxies keep the connection open
	writeTime = 10 * time.Second // of one event

	mostViews   = 500 // streams and polls at once
	viewsOfUser = 100 // of one user: pages that are followed take turns, so many slow down those of others
)

// events sends what changes of a page, for as long as somebody looks at it: events/?page= is
// its relative address. If poll= is set it answers once, for who gets no stream through.
func (s *site) events(w http.ResponseWriter, r *http.Request) {
	u, err := url.Parse(r.URL.Query().Get("page"))
	if err != nil || u.Host != "" || !isPage(strings.TrimPrefix(u.Path, "./")) {
		http.Error(w, "page= is no page of this dashboard", http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), streamFor)
	defer cancel()
	user := access.UserOf(ctx)
	if !user.Has(access.Read) {
		http.Error(w, "you may not read this", http.StatusForbidden)
		return
	}
	// Who may do the same sees the same.
	key := fmt.Sprintf("%q %q %q\n%s?%s", user.Name, user.Actions(), user.Tasks(), strings.TrimPrefix(u.Path, "./"), u.Query().Encode())
	w.Header().Set("Cache-Control", "no-store")
	leave, ok := s.views.Enter(user)
	if !ok {
		w.Header().Set("Retry-After", "5")
		http.Error(w, fmt.Sprintf("as many pages are followed as may: %d of one user, and %d of all", viewsOfUser, mostViews), http.StatusTooManyRequests)
		return
	}
	defer leave()
	if r.URL.Query().Get("poll") != "" {
		s.poll(ctx, w, key)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // else nginx keeps events back
	out := &stream{w, http.NewResponseController(w), access.Stream(w, writeTime)}
	if r.Method == http.MethodHead || out.send("retry: 2000\n\n") != nil {
		return
	}
	s.stream(ctx, out, key)
}

// stream is a stream of events to one viewer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	extend  func() // the time that the next write may take
}

func (o *stream) send(text string) error {
	o.extend()
	if _, err := o.w.Write([]byte(text)); err != nil {
		return err
	}
	return o.control.Flush()
}

// stream sends the news of a page until ctx ends.
func (s *site) stream(ctx context.Context, out *stream, key string) {
	news := make(chan string)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		_ = s.hub.Watch(ctx, key, func(parts live.Parts, err error) error {
			select {
			case news <- eventOf(parts, err):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	beats := time.NewTicker(beat)
	defer beats.Stop()
	for {
		event := ": still here\n\n"
		select {
		case <-ctx.Done():
			return
		case <-beats.C:
		case event = <-news:
		}
		if out.send(event) != nil {
			return
		}
	}
}

// eventOf returns an event of the news of a page.
func eventOf(parts live.Parts, err error) string {
	if err != nil {
		return "event: failure\ndata: " + string(jsonOf(err.Error())) + "\n\n"
	}
	return "event: parts\ndata: " + string(jsonOf(parts)) + "\n\n"
}

func jsonOf(v any) []byte {
	b, err := json.Marshal(v) // of texts: it has no error, and escapes the ends of lines
	if err != nil {
		return []byte("null")
	}
	return b
}

// poll answers with all parts of a page, once they were rendered.
func (s *site) poll(ctx context.Context, w http.ResponseWriter, key string) {
	got := errors.New("got it")
	err := s.hub.Watch(ctx, key, func(parts live.Parts, err error) error {
		if err != nil {
			http.Error(w, err.Error(), statusOf(err))
			return got
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(jsonOf(parts)) // who asked is gone
		return got
	})
	if !errors.Is(err, got) {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}

// liveParts renders a page and returns what is in its live-part elements. The key is the
// rights of who looks, a new line, and the page's address.
func (s *site) liveParts(ctx context.Context, key string) (parts live.Parts, err error) {
	defer func() { // no server recovers here
		if p := recover(); p != nil {
			err = fmt.Errorf("show the page: %v", p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	_, address, _ := strings.Cut(key, "\n")
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	p := s.pages[u.Path]
	if p == nil {
		return nil, notFound(errors.New("there is no such page"))
	}
	var out bytes.Buffer
	if err := s.render(ctx, &out, &request{site: s, page: p, path: u.Path, query: u.Query()}); err != nil {
		return nil, err
	}
	return partsOf(out.String()), nil
}

// partsOf returns what is in the live-part elements of a page. package markup has escaped what
// is in them, so that their tags can only be the templates' own.
func partsOf(html string) live.Parts {
	parts := live.Parts{}
	for {
		_, rest, found := strings.Cut(html, `<live-part id="`)
		if !found {
			return parts
		}
		id, rest, _ := strings.Cut(rest, `"`)
		_, rest, _ = strings.Cut(rest, ">")
		parts[id], html, _ = strings.Cut(rest, "</live-part>")
	}
}
