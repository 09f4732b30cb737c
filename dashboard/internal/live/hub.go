package live

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Parts are the parts of a page that change, by their ids.
type Parts map[string]string

// Hub renders pages again while somebody watches them: one page in each interval, in turn, so
// that the broker is read as rarely however many watch. Viewers of one page share what was
// rendered. Its methods may be called concurrently.
type Hub struct {
	interval time.Duration
	render   func(ctx context.Context, key string) (Parts, error)

	mu      sync.Mutex
	watched map[string]*watched
	turns   []string // the keys, the next to render first
	loop    *loop    // nil: nobody watches
}

// loop is the goroutine that renders.
type loop struct {
	stop  context.CancelFunc
	ended chan struct{}
}

// watched is a page that somebody watches.
type watched struct {
	parts   Parts
	err     error
	changed chan struct{} // closed once it was rendered again
	viewers int
	ctx     context.Context // of one of its viewers, for its values
}

// NewHub returns a hub that calls render at most once in an interval. It starts nothing
// until somebody watches.
func NewHub(interval time.Duration, render func(ctx context.Context, key string) (Parts, error)) *Hub {
	return &Hub{interval: interval, render: render, watched: make(map[string]*watched)}
}

// Watch calls send with what changed of a page each time it was rendered, until ctx ends or
// send returns an error, which it returns. With an error of the rendering parts is nil. Of
// what was sent before only parts that differ are sent again. render gets the values of the
// context of one of those who watch the page.
func (h *Hub) Watch(ctx context.Context, key string, send func(parts Parts, err error) error) error {
	w := h.add(ctx, key)
	defer h.remove(key, w)
	sent := Parts{}
	for {
		h.mu.Lock()
		changed := w.changed
		h.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
		h.mu.Lock()
		parts, err := w.parts, w.err
		h.mu.Unlock()
		news := Parts{}
		for id, part := range parts {
			if sent[id] != part {
				news[id], sent[id] = part, part
			}
		}
		if err := send(news, err); err != nil {
			return err
		}
	}
}

func (h *Hub) add(ctx context.Context, key string) *watched {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := h.watched[key]
	if w == nil {
		w = &watched{changed: make(chan struct{}), ctx: context.WithoutCancel(ctx)}
		h.watched[key] = w
		h.turns = append(h.turns, key)
	}
	w.viewers++
	if h.loop == nil {
		ctx, cancel := context.WithCancel(context.Background())
		h.loop = &loop{stop: cancel, ended: make(chan struct{})}
		go h.run(ctx, h.loop.ended)
	}
	return w
}

// remove ends the watch of one viewer. The last one waits for the end of the loop.
func (h *Hub) remove(key string, w *watched) {
	if l := h.leave(key, w); l != nil {
		l.stop()
		<-l.ended
	}
}

// leave returns the loop if nobody watches any more.
func (h *Hub) leave(key string, w *watched) (last *loop) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.viewers--; w.viewers == 0 {
		delete(h.watched, key)
		h.turns = slices.DeleteFunc(h.turns, func(turn string) bool { return turn == key })
	}
	if len(h.watched) == 0 {
		last, h.loop = h.loop, nil
	}
	return last
}

// run renders pages in turn, until ctx ends.
func (h *Hub) run(ctx context.Context, ended chan struct{}) {
	defer close(ended)
	turns := time.NewTicker(h.interval)
	defer turns.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-turns.C:
		}
		key, w := h.next()
		if w == nil {
			continue
		}
		parts, err := h.renderUntil(ctx, w, key)
		h.mu.Lock()
		w.parts, w.err = parts, err
		close(w.changed)
		w.changed = make(chan struct{})
		h.mu.Unlock()
	}
}

// renderUntil renders a page with the values of the context of one of its viewers, until ctx
// ends.
func (h *Hub) renderUntil(ctx context.Context, w *watched, key string) (Parts, error) {
	inner, cancel := context.WithCancel(w.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	return h.render(inner, key)
}

// next returns the page whose turn it is, nil if nobody watches any.
func (h *Hub) next() (string, *watched) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.turns) > 0 {
		key := h.turns[0]
		h.turns = h.turns[1:]
		if w := h.watched[key]; w != nil {
			h.turns = append(h.turns, key)
			return key, w
		}
	}
	return "", nil
}
