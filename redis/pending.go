package redis

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// pendingRun is a run that awaits a group, as its own queue keeps it.
type pendingRun struct {
	b                 *Broker
	q                 *queue
	id, token, unique string
}

func (p *pendingRun) keys() []string {
	if p.unique == "" {
		return script.PendingKeys(&p.q.QueueKeys, p.id, p.token)
	}
	return script.PendingKeys(&p.q.QueueKeys, p.id, p.token, p.q.Unique(p.unique))
}

// decide keeps the pending run or drops it, as what says.
func (p *pendingRun) decide(ctx context.Context, what string) error {
	_, err := p.b.repeat(ctx, p.b.scripts.Pending, p.b.clients.Work, p.keys(),
		(&script.PendingArgs{Action: what, Token: p.token, ID: p.id}).Append(nil)...)
	if err != nil {
		return p.b.fail(ctx, what+" place of run "+p.id, err)
	}
	return nil
}

// inDoubt reports whether a pending run that expires so soon was stored so long ago that
// its group is not just being stored.
func inDoubt(expires time.Duration) bool {
	return expires >= 0 && expires < groupKept-groupReserved
}

// decidePending decides about a pending run whose producer did not, by whether the group's
// members are stored. It reports whether the run was dropped.
func (b *Broker) decidePending(ctx context.Context, q *queue, id string) (gone bool, err error) {
	pipe := b.clients.Work.Pipeline()
	marker, expires, doubt := pipe.Get(ctx, q.PendingRun(id)), pipe.PTTL(ctx, q.PendingRun(id)), pipe.HGet(ctx, q.Pending, id)
	if err := b.clients.ReadAll(ctx, pipe); err != nil {
		return false, b.fail(ctx, "read place of run "+id, err)
	}
	p := &pendingRun{b: b, q: q, id: id}
	if len(doubt.Val()) >= wire.TokenDigits {
		p.token, p.unique = doubt.Val()[:wire.TokenDigits], doubt.Val()[wire.TokenDigits:]
	}
	at := marker.Val()
	switch {
	case len(at) < wire.TokenDigits || at[:wire.TokenDigits] != p.token && p.token != "":
		// It was decided before.
		if p.token == "" {
			return false, nil
		}
		return false, p.decide(ctx, "drop")
	case !inDoubt(expires.Val()):
		return false, nil
	}
	p.token = at[:wire.TokenDigits]
	what, err := b.judge(ctx, at)
	if err != nil || what == "" {
		return false, err
	}
	return what == "drop", p.decide(ctx, what)
}

// judge returns what is to become of a pending run whose entry has a token. It is "stay"
// if the members of its group are stored, "drop" if they cannot be any more, and "" while
// they can. value is that of the pending run's key.
func (b *Broker) judge(ctx context.Context, value string) (string, error) {
	pending, _ := wire.ParsePendingRun(value)
	token, group := pending.Token, pending.Group
	q, err := b.queue(pending.Queue)
	if err != nil {
		return "", fmt.Errorf("look for group %.64q: %w", group, err)
	}
	pipe := b.clients.Work.Pipeline()
	fields, expires := pipe.HMGet(ctx, q.Group(group), "left", "then", "begun"), pipe.PTTL(ctx, q.Group(group))
	if err := b.clients.ReadAll(ctx, pipe); err != nil {
		return "", b.fail(ctx, "look for group "+group, err)
	}
	var has [3]string
	for i, v := range fields.Val() {
		has[i%len(has)], _ = v.(string)
	}
	left, then, begun := has[0], has[1], has[2]
	waits := strings.HasPrefix(then, wire.GatheringOpens+token)
	switch {
	case left == "":
		return "drop", nil
	case begun == token:
		return "stay", nil
	case begun != "" || then != "" && !waits:
		return "drop", nil // it is another group of this name
	case then == "" || expires.Val() < 0:
		return "stay", nil // an older version says so
	}
	return "", nil
}

// decideAllPending decides about all pending runs of a queue that are in doubt.
func (b *Broker) decideAllPending(ctx context.Context, q *queue) error {
	var failed []error
	for cursor := uint64(0); ; {
		ids, next, err := b.scanDoubted(ctx, q, cursor)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := b.decidePending(ctx, q, id); err != nil {
				failed = append(failed, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
		if cursor = next; cursor == 0 {
			if len(failed) > 0 {
				return failed[0] // of many that likely have one cause
			}
			return nil
		}
	}
}

// scanDoubted returns the ids of the pending runs in a page of a scan that are in doubt, and
// where the scan goes on.
func (b *Broker) scanDoubted(ctx context.Context, q *queue, cursor uint64) (ids []string, next uint64, err error) {
	var page conn.Page
	err = b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
		page, err = b.clients.Work.HScan(ctx, q.Pending, cursor, pendingPage)
		return err
	})
	if err != nil {
		return nil, 0, b.fail(ctx, "read places in doubt of queue "+q.Name, err)
	}
	ids, err = b.doubted(ctx, q, page.Entries)
	return ids, page.Cursor, err
}

// pendingPage is how many pending runs one command reads.
const pendingPage = 100

// doubted returns the ids of the pending runs in a page of the hash that are in doubt.
func (b *Broker) doubted(ctx context.Context, q *queue, fields []string) ([]string, error) {
	pipe := b.clients.Work.Pipeline()
	var ids []string
	var ages []conn.Reply[time.Duration]
	for i := 0; i+1 < len(fields); i += 2 {
		ids = append(ids, fields[i])
		ages = append(ages, pipe.PTTL(ctx, q.PendingRun(fields[i])))
	}
	if len(ids) == 0 {
		return nil, nil
	}
	if err := b.clients.ReadAll(ctx, pipe); err != nil {
		return nil, b.fail(ctx, "read places in doubt of queue "+q.Name, err)
	}
	n := 0
	return slices.DeleteFunc(ids, func(string) bool {
		n++
		left := ages[n-1].Val()
		return left >= 0 && !inDoubt(left)
	}), nil
}

// groupKept is how long a pending run is kept while it is in doubt whether the group's
// members are stored.
const groupKept = 30 * 24 * time.Hour

// resultsKept is how long the results of ended members are kept at most, in addition to the delay
// of the run that gathers them. The end of that run forgets them; this is for a run of which nobody
// sees the end.
const resultsKept = 365 * 24 * time.Hour

// groupReserved is how long after its reservation the members of a group can be stored. If
// they can be stored at all, that takes much less.
const groupReserved = time.Minute
