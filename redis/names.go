package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// The set of the queues' names is open to producers in other languages, which add
// to it themselves (docs/wire.md). A name that no queue can have is passed over.

const (
	mostOdd      = 1000 // findings that are kept in mind, so that each is logged once
	mostOddNamed = 5    // names in one line of log
)

// oddities are the findings that were logged: each is logged once.
type oddities struct {
	mu    sync.Mutex
	known map[string]bool
}

// isNew reports whether a finding is new, and keeps it in mind. Beyond a number of
// findings all further ones count as known.
func (o *oddities) isNew(finding string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.known[finding] || len(o.known) >= mostOdd {
		return false
	}
	if o.known == nil {
		o.known = map[string]bool{}
	}
	o.known[finding] = true
	return true
}

// checkQueue returns why no queue can have the name, nil if one can.
func checkQueue(name string) error {
	probe := broker.TaskRun{ID: "-", Task: "-", Queue: name}
	return probe.Validate()
}

// readNames reads the names of all queues. Names that no queue can have are left
// out; they are logged and counted when this broker first meets them.
func (b *Broker) readNames(ctx context.Context) ([]string, error) {
	names, err := conn.WithGrace(ctx, b.clients, func(ctx context.Context) ([]string, error) {
		return b.clients.Work.SMembers(ctx, b.queuesKey()).Result()
	})
	if err != nil {
		return nil, b.fail(ctx, "read names of queues", b.blame(ctx, err, b.queuesKey()))
	}
	var odd []string
	names = slices.DeleteFunc(names, func(name string) bool {
		if checkQueue(name) == nil {
			return false
		}
		odd = append(odd, name)
		return true
	})
	b.logOddNames(ctx, odd)
	return names, nil
}

// QueueNames returns the names of all queues, sorted, by one command and, if there are
// others than before or a minute has passed, another.
func (b *Broker) QueueNames(ctx context.Context) ([]string, error) {
	n, err := conn.WithGrace(ctx, b.clients, func(ctx context.Context) (int64, error) {
		return b.clients.Work.SCard(ctx, b.queuesKey()).Result()
	})
	if err != nil {
		return nil, b.fail(ctx, "count names of queues", b.blame(ctx, err, b.queuesKey()))
	}
	c := &b.counted
	c.mu.Lock()
	defer c.mu.Unlock()
	if n == c.n && time.Since(c.at) < time.Minute {
		return slices.Clone(c.names), nil
	}
	names, err := b.readNames(ctx)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	c.names, c.n, c.at = names, n, time.Now()
	return slices.Clone(names), nil
}

// countedNames are the names of queues as they were read when there were so many.
type countedNames struct {
	mu    sync.Mutex
	names []string
	n     int64
	at    time.Time
}

// QueueLength returns the number of runs that wait in each queue, those not
// yet due included. Where some of it cannot be read it returns an error, and beside
// it what it could read: all queues, with what could be counted.
func (b *Broker) QueueLength(ctx context.Context) (map[string]int64, error) {
	names, err := b.readNames(ctx)
	if err != nil {
		return nil, err
	}
	lengths := make(map[string]int64, len(names))
	if len(names) == 0 {
		return lengths, nil
	}
	pipe := b.clients.Work.Pipeline()
	queues, counts := make([]*queue, len(names)), make([][]*goredis.IntCmd, len(names))
	staged := make([]*goredis.SliceCmd, len(names))
	for i, name := range names {
		q := b.keysOf(name)
		queues[i] = q
		for _, list := range q.Ready {
			counts[i] = append(counts[i], pipe.LLen(ctx, list))
		}
		counts[i] = append(counts[i], pipe.ZCard(ctx, q.Delayed), pipe.ZCard(ctx, q.Lines), pipe.ZCard(ctx, q.Aside))
		staged[i] = pipe.HMGet(ctx, q.Stages, "runs")
	}
	if _, err := conn.WithGrace(ctx, b.clients, pipe.Exec); err != nil && conn.ContextErr(ctx) != nil {
		return nil, b.fail(ctx, "read lengths of queues", err)
	}
	var failed failures
	for i, name := range names {
		lengths[name] = 0
		for _, n := range counts[i] {
			lengths[name] += n.Val()
			failed.note(queues[i], n.Err())
		}
		lengths[name] += countOf(staged[i].Val())
		failed.note(queues[i], staged[i].Err())
	}
	if failed.queues() == len(names) {
		lengths = nil // nothing is known of any
	}
	return lengths, failed.join(ctx, b, "read length")
}

// countOf reads a field that counts, 0 if it is not there.
func countOf(values []any) int64 {
	if len(values) == 0 {
		return 0
	}
	text, _ := values[0].(string)
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// failures are what went wrong in some of several queues.
type failures struct {
	of   []*queue
	errs []error // the first of each
}

// note notes the failure of a queue, unless it is nil.
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

// only is join for errors that say what was done: it has the first ones and counts
// the others.
func (f *failures) only() error {
	if len(f.of) <= mostOddNamed {
		return errors.Join(f.errs...)
	}
	more := fmt.Errorf("and %d more queues the same or in another way", len(f.of)-mostOddNamed)
	return errors.Join(append(f.errs[:mostOddNamed:mostOddNamed], more)...)
}

// logOddNames logs the names that were not logged before, in one line.
func (b *Broker) logOddNames(ctx context.Context, odd []string) {
	var quoted []string
	fresh := 0
	slices.Sort(odd)
	for _, name := range odd {
		if !b.odd.isNew("name " + name) {
			continue
		}
		if fresh++; fresh <= mostOddNamed {
			quoted = append(quoted, quote(name))
		}
	}
	if fresh == 0 {
		return
	}
	names := strings.Join(quoted, " ")
	b.cfg.Logger.WarnContext(ctx, "names that no queue can have are skipped; remove them from the set of names with SREM",
		"skipped", len(odd), "names", names, "remove", "SREM "+b.queuesKey()+" "+names)
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

// logOddKey logs a key whose value is skipped, once.
func (b *Broker) logOddKey(ctx context.Context, key string, why error) {
	if b.odd.isNew("key " + key) {
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
	if err == nil || !conn.IsWrongType(err) || ctx.Err() != nil {
		return err
	}
	pipe := b.clients.Work.Pipeline()
	types := make([]*goredis.StatusCmd, len(keys))
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

// blameIn is blame for a command about a queue: it looks at the queue's fixed keys
// and at those given.
func (b *Broker) blameIn(ctx context.Context, err error, q *queue, more ...string) error {
	if err == nil || !conn.IsWrongType(err) {
		return err
	}
	return b.blame(ctx, err, append(q.All(), more...)...)
}
