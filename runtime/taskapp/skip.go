package taskapp

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/text"
)

// Queues are read several at a time: one that cannot be read, or is slow, holds up
// none of the others.
const queuesAtOnce = 16

// pass notes on standard error that something could not be read or done, and lets the
// command go on without it.
func (c *control) pass(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.passed == nil {
		c.passed = make(map[string]bool)
	}
	c.passed[what] = true
	if c.silent {
		return
	}
	fmt.Fprintf(c.line.stderr, "%s: %s: skipped: %s\n", c.line.name(), text.Printable(what), oneLine(err))
}

// isPassed reports whether a queue was passed over already.
func (c *control) isPassed(queue string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.passed[inQueue(queue)]
}

func inQueue(queue string) string { return "queue " + queue }

// incomplete returns an error if anything was passed over.
func (c *control) incomplete() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.passed) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s skipped in whole or in part, as said above", c.command, text.Count(len(c.passed), "place"))
}

// unlessPassed adds to a not-found error that the command skipped places, if it did.
func (c *control) unlessPassed(err error) error {
	if passed := c.incomplete(); passed != nil {
		return fmt.Errorf("%w; it may be where this command did not get to look", err)
	}
	return err
}

// inQueues does f for each of the queues, some at a time, and returns what it returned
// in their order. Queues of which it returned an error are passed over, but for what it
// returned beside that, and are not asked again by the same command. The error is ctx's.
func inQueues[T any](ctx context.Context, c *control, queues []string, f func(queue string) (T, error)) ([]T, error) {
	values := make([]T, len(queues))
	var all sync.WaitGroup
	room := make(chan struct{}, queuesAtOnce)
	for i, queue := range queues {
		if c.isPassed(queue) || ctx.Err() != nil {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			var err error
			if values[i], err = f(queue); err != nil && ctx.Err() == nil {
				c.pass(inQueue(queue), err)
			}
		})
	}
	all.Wait()
	return values, ctx.Err()
}

// surveyed has look look into the queues together, if the broker can, and found take each
// one's part by its place among them. It returns the places of those to look into by
// themselves. Queues that cannot be reached are passed over, as by inQueues.
func surveyed[T any](ctx context.Context, c *control, queues []string,
	look func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[T])) error, found func(i int, part maintenance.Part[T]),
) (rest []int, err error) {
	var asked []string
	var at []int
	for i, queue := range queues {
		if !c.isPassed(queue) {
			asked, at = append(asked, queue), append(at, i)
		}
	}
	s, ok := c.broker.(maintenance.Surveyor)
	if !ok || len(asked) < 2 {
		return at, ctx.Err()
	}
	err = look(s, asked, func(part maintenance.Part[T]) {
		switch i := at[part.Queue]; {
		case part.Err != nil:
			c.pass(inQueue(queues[i]), part.Err)
		case part.Apart:
			rest = append(rest, i)
		default:
			found(i, part)
		}
	})
	slices.Sort(rest)
	return rest, err
}

// inMany is inQueues, but looks into the queues together as far as that goes: take makes
// of a part what f returns of a queue.
func inMany[T, P any](ctx context.Context, c *control, queues []string,
	look func(s maintenance.Surveyor, queues []string, part func(maintenance.Part[P])) error, take func(maintenance.Part[P]) T,
	f func(queue string) (T, error),
) ([]T, error) {
	values := make([]T, len(queues))
	rest, err := surveyed(ctx, c, queues, look, func(i int, part maintenance.Part[P]) { values[i] = take(part) })
	if err != nil {
		return nil, err
	}
	others, err := inQueues(ctx, c, pick(queues, rest), f)
	for n, i := range rest {
		values[i] = others[n]
	}
	return values, err
}

// pick returns the queues at some places.
func pick(queues []string, at []int) []string {
	some := make([]string, len(at))
	for n, i := range at {
		some[n] = queues[i]
	}
	return some
}

// found is a take for inMany that takes a part as it is.
func found[T any](part maintenance.Part[T]) T { return part.Found }

// skipLogger returns the logger of a command's broker. It writes lines to standard error
// as the command does.
func (c *commandLine) skipLogger() *slog.Logger { return slog.New(&lineHandler{line: c}) }

// lineHandler writes warnings as lines of a command.
type lineHandler struct {
	line  *commandLine
	mu    sync.Mutex
	attrs []slog.Attr
}

// Enabled reports whether a record is one for whoever typed the command.
func (h *lineHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// Handle writes a record as one line.
func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var details []string
	add := func(a slog.Attr) bool {
		details = append(details, a.Key+": "+a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	message := r.Message
	if len(details) > 0 {
		message += " (" + strings.Join(details, ", ") + ")"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.line.stderr, "%s: %s\n", h.line.name(), text.Printable(message))
	return err
}

// WithAttrs returns a handler that adds the attributes to each line.
func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &lineHandler{line: h.line, attrs: append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

// WithGroup returns the handler itself: lines for people have no groups.
func (h *lineHandler) WithGroup(string) slog.Handler { return h }
