package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
)

// Producers in other languages add to the set of the queues' names themselves
// (docs/wire.md). A name that no queue can have is skipped.

// readNames reads the names of all queues. It skips names that no queue can have, and logs
// and counts them when this broker first meets them.
func (b *Broker) readNames(ctx context.Context) ([]string, error) {
	names, err := b.clients.Work.SMembers(ctx, b.queuesKey())
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

// QueueNames returns the names of all queues, sorted. It sends one command, and another if
// their number has changed or a minute has passed.
func (b *Broker) QueueNames(ctx context.Context) ([]string, error) {
	n, err := b.clients.Work.SCard(ctx, b.queuesKey())
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

// QueueLength returns the number of runs that wait in each queue, those not yet due
// included. If some of them cannot be counted, it returns an error, and beside it all queues
// with the numbers that it has.
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
	replies := make([]lengthReplies, len(names))
	for i, name := range names {
		replies[i] = askLength(ctx, pipe, b.keysOf(name))
	}
	if err := b.clients.Send(ctx, pipe); err != nil && conn.ContextErr(ctx) != nil {
		return nil, b.fail(ctx, "read lengths of queues", err)
	}
	var failed failures
	for i, name := range names {
		lengths[name] = replies[i].sum(&failed)
	}
	if failed.queues() == len(names) {
		lengths = nil // nothing is known of any
	}
	return lengths, failed.join(ctx, b, "read length")
}

// lengthReplies are what is read to count the runs of a queue.
type lengthReplies struct {
	q      *queue
	counts []conn.Reply[int64]
	staged conn.Reply[[]any]
}

func askLength(ctx context.Context, pipe conn.Pipeline, q *queue) lengthReplies {
	r := lengthReplies{q: q}
	for _, list := range q.Ready {
		r.counts = append(r.counts, pipe.LLen(ctx, list))
	}
	r.counts = append(r.counts, pipe.ZCard(ctx, q.Delayed), pipe.ZCard(ctx, q.Backlogs), pipe.ZCard(ctx, q.Deferred))
	r.staged = pipe.HMGet(ctx, q.Stages, "runs")
	return r
}

// sum returns how many runs wait, and notes in failed what could not be counted.
func (r *lengthReplies) sum(failed *failures) (total int64) {
	for _, n := range r.counts {
		total += n.Val()
		failed.note(r.q, n.Err())
	}
	failed.note(r.q, r.staged.Err())
	return total + countOf(r.staged.Val())
}

// countOf parses the value of a field that counts, 0 if there is none.
func countOf(values []any) int64 {
	if len(values) == 0 {
		return 0
	}
	text, _ := values[0].(string)
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// logOddNames logs the names that were not logged before, in one line.
func (b *Broker) logOddNames(ctx context.Context, odd []string) {
	slices.Sort(odd)
	findings := make([]string, len(odd))
	for i, name := range odd {
		findings[i] = "name " + name
	}
	fresh := b.logged.news(findings...)
	if len(fresh) == 0 {
		return
	}
	var quoted []string
	for _, finding := range fresh[:min(len(fresh), mostOddNamed)] {
		quoted = append(quoted, quote(strings.TrimPrefix(finding, "name ")))
	}
	names := strings.Join(quoted, " ")
	b.cfg.Logger.WarnContext(ctx, "names that no queue can have are skipped; remove them from the set of names with SREM",
		"skipped", len(odd), "names", names, "remove", "SREM "+b.queuesKey()+" "+names)
}
