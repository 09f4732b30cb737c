package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	mostOdd      = 1000 // findings that are kept in mind, so that each is logged once
	mostOddNamed = 5    // names in one line of log
)

// loggedOnce are the findings that were logged: each is logged once.
type loggedOnce struct {
	mu    sync.Mutex
	known map[string]bool
}

// isNew reports whether a finding is new, and keeps it in mind. Beyond a number of
// findings all further ones count as known.
func (o *loggedOnce) isNew(finding string) bool { return len(o.news(finding)) > 0 }

// news returns those of some findings that are new, and keeps them in mind, as isNew does.
// Of two who call it with the same ones, one gets all.
func (o *loggedOnce) news(findings ...string) (news []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, finding := range findings {
		if !o.known[finding] && len(o.known) < mostOdd {
			set(&o.known, finding, true)
			news = append(news, finding)
		}
	}
	return news
}

// failures are what went wrong in some of several queues.
type failures struct {
	of   []*queue
	errs []error // the first of each
}

// note adds the failure of a queue; nil adds nothing.
func (f *failures) note(q *queue, err error) {
	if err == nil || len(f.of) > 0 && f.of[len(f.of)-1] == q {
		return
	}
	f.of, f.errs = append(f.of, q), append(f.errs, err)
}

func (f *failures) queues() int { return len(f.of) }

// join makes one error of them, nil if there were none.
func (f *failures) join(ctx context.Context, b *Broker, op string) error {
	for i, q := range f.of[:min(len(f.of), mostOddNamed)] {
		f.errs[i] = b.fail(ctx, op+" of queue "+q.Name, b.blameIn(ctx, f.errs[i], q))
	}
	return f.only()
}

// only is join for errors that name their operation. It keeps the first ones and counts
// the others.
func (f *failures) only() error {
	if len(f.of) <= mostOddNamed {
		return errors.Join(f.errs...)
	}
	more := fmt.Errorf("and %d more queues the same or in another way", len(f.of)-mostOddNamed)
	return errors.Join(append(f.errs[:mostOddNamed:mostOddNamed], more)...)
}

// quote writes a string as redis-cli reads it, a long one cut off.
func quote(s string) string {
	const most = 200
	var text strings.Builder
	text.WriteByte('"')
	for i := range len(s) {
		if i == most {
			fmt.Fprintf(&text, "…\" (%d bytes)", len(s))
			return text.String()
		}
		switch c := s[i]; {
		case c == '"' || c == '\\':
			text.WriteByte('\\')
			text.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&text, `\x%02x`, c)
		default:
			text.WriteByte(c)
		}
	}
	text.WriteByte('"')
	return text.String()
}

// logOddKey logs, once, a key whose value is skipped.
func (b *Broker) logOddKey(ctx context.Context, key string, why error) {
	if b.logged.isNew("key " + key) {
		b.cfg.Logger.WarnContext(ctx, "a key of the broker holds what it cannot hold and is skipped; correct or delete it", "key", key, "error", why)
	}
}

// wrongType is the server's refusal of a command, with the keys it was about.
type wrongType struct {
	error
	keys []string // each with its type
}

func (w wrongType) Error() string {
	return w.error.Error() + ": " + strings.Join(w.keys, ", ") + "; rename or delete it"
}

func (w wrongType) Unwrap() error { return w.error }

// blame names in a refusal that a key is of the wrong type which of the keys it is.
// It asks the server for their types; other errors it returns as they are.
func (b *Broker) blame(ctx context.Context, err error, keys ...string) error {
	if _, named := errors.AsType[wrongType](err); err == nil || named || !conn.IsWrongType(err) || ctx.Err() != nil {
		return err
	}
	pipe := b.clients.Work.Pipeline()
	types := make([]conn.Reply[string], len(keys))
	for i, key := range keys {
		types[i] = pipe.Type(ctx, key)
	}
	if b.clients.ReadAll(ctx, pipe) != nil {
		return err
	}
	var wrong []string
	for i, key := range keys {
		is, want := types[i].Val(), wire.TypeOf(b.cfg.Prefix, key)
		if is != "none" && want != "" && is != want {
			wrong = append(wrong, fmt.Sprintf("the key %s is a %s, not a %s", key, is, want))
		}
	}
	if len(wrong) == 0 {
		return err
	}
	return wrongType{err, wrong[:min(len(wrong), mostOddNamed)]}
}

// blameIn is blame for a command about a queue. It looks at the queue's fixed keys and at
// those given.
func (b *Broker) blameIn(ctx context.Context, err error, q *queue, more ...string) error {
	if err == nil || !conn.IsWrongType(err) {
		return err
	}
	return b.blame(ctx, err, append(q.All(), more...)...)
}

func (b *Broker) failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	return b.fail(ctx, what, err)
}
