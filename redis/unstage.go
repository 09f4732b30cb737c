package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// staleStage is how long after its commit recoveries leave a large call to its producer.
const staleStage = time.Second

// unstaged is a page of a large call as the unstage script takes it.
type unstaged struct {
	keys    []string
	letters []any
}

func (u *unstaged) add(q *queue, id string, ownID bool, unique string, record bool) {
	letters, keys := q.ReservedBy(id, ownID, unique)
	if record {
		letters, keys = letters+"r", append(keys, q.Record(id))
	}
	u.keys, u.letters = append(u.keys, keys...), append(u.letters, letters)
}

// unstageOthers moves or drops the runs of a call of any process, up to so many pages; 0
// is all.
func (b *Broker) unstageOthers(ctx context.Context, q *queue, token, mode string, pages int) (int, error) {
	n, err := repaired(ctx, b, q.Staging(token), func() (int64, error) { return b.clients.Work.LLen(ctx, q.Staging(token)) })
	if err != nil {
		return 0, err
	}
	return b.unstage(ctx, q, token, mode, int(n), pages, func(int) (*unstaged, error) { return b.readStage(ctx, q, token) })
}

// unstage calls the script until nothing is left, so many pages have been moved, or the
// script refuses. It returns how many runs are left, or why the script refused.
func (b *Broker) unstage(ctx context.Context, q *queue, token, mode string, left, pages int, read func(left int) (*unstaged, error)) (int, error) {
	for done := 0; ; done++ {
		page, err := new(unstaged), error(nil)
		if left > 0 {
			if page, err = read(left); err != nil {
				return left, err
			}
		}
		n := len(page.letters)
		keys := append(script.UnstageKeys(&q.QueueKeys, token), page.keys...)
		args := (&script.UnstageArgs{Mode: mode, Token: token, Left: left, Page: n, MaxDead: b.cfg.MaxDead, Failure: b.bad}).Append(nil)
		args = append(args, page.letters...)
		v, err := b.repeat(ctx, b.scripts.Unstage, b.clients.Work, keys, args...)
		if err != nil {
			return left, fmt.Errorf("move runs of a large call: %w", err)
		}
		was := left
		now, ok := v.(int64)
		if left = int(now); !ok || left <= 0 && (left < 0 || was == n) || pages > 0 && done+1 >= pages {
			return left, nil
		}
	}
}

// readStage reads the first page of a large call.
func (b *Broker) readStage(ctx context.Context, q *queue, token string) (*unstaged, error) {
	v, err := b.repeat(ctx, b.scripts.Outbox, b.clients.Work, []string{q.Staging(token)},
		(&script.OutboxArgs{Entries: pageCost / 4, Bytes: pageBytes, From: "head"}).Append(nil)...)
	var entries []string
	if err == nil {
		_, entries, err = script.ParseOutbox(v)
	}
	if err != nil {
		return nil, fmt.Errorf("read runs of a large call: %w", err)
	}
	page, cost := new(unstaged), 0
	for _, entry := range entries {
		h, err := stagedHeader(entry)
		if err != nil {
			page.letters = append(page.letters, "-")
			continue
		}
		if cost += unstageCost(h); cost > pageCost && len(page.letters) > 0 {
			break
		}
		page.add(q, string(h.ID), h.OwnID, h.Unique(), h.Record)
	}
	return page, nil
}

// stagedHeader returns the header of the run of an entry of a stage.
func stagedHeader(entry string) (wire.Header, error) {
	stored, err := wire.ParseStaged(entry)
	if err != nil {
		return wire.Header{}, err
	}
	return wire.ParseHeader([]byte(stored))
}

// unstageCost is what it costs the server to move a run, as costOf.
func unstageCost(h wire.Header) int {
	cost := 4
	if h.Unique() != "" {
		cost += 7
	}
	if h.Flags&wire.FlagWaits != 0 {
		cost += 40
	}
	return cost
}

// moveStaged moves the runs of committed large calls, up to so many pages; 0 is all. It
// reports whether there were any. A call that cannot be moved does not keep the others
// back.
func (b *Broker) moveStaged(ctx context.Context, q *queue, pages int) (some bool, err error) {
	var failed failures
	for {
		stuck := int64(failed.queues())
		tokens, err := repaired(ctx, b, q.Staged, func() ([]string, error) {
			return b.clients.Work.LRange(ctx, q.Staged, stuck, stuck)
		})
		if err != nil {
			return some, b.fail(ctx, "look for runs of large calls", err)
		}
		if len(tokens) == 0 {
			return some, failed.only()
		}
		if err := b.moveCall(ctx, q, tokens[0], pages); err != nil {
			failed.of, failed.errs = append(failed.of, q), append(failed.errs, err)
			if conn.ContextErr(ctx) != nil {
				return some, failed.only()
			}
			continue
		}
		if some = true; pages > 0 {
			return some, nil
		}
	}
}

// moveCall moves the runs of a committed call, up to so many pages.
func (b *Broker) moveCall(ctx context.Context, q *queue, token string, pages int) error {
	left, err := b.unstageOthers(ctx, q, token, "move", pages)
	if err != nil {
		return b.fail(ctx, "take over runs of a large call", err)
	}
	if left == script.StageNotCommitted { // others were faster, or the token is of no call
		return b.dropStaged(ctx, q, token)
	}
	return nil
}

// dropStaged removes the token of a call that does not exist.
func (b *Broker) dropStaged(ctx context.Context, q *queue, token string) error {
	state, err := b.clients.Work.HMGet(ctx, q.Stages, token)
	if err == nil && state[0] == nil {
		_, err = b.clients.Work.LRem(ctx, q.Staged, 1, token)
	}
	return b.failed(ctx, "forget a large call", err)
}

// seeStaged moves the runs of all committed large calls, so that the caller finds them
// where it looks. If there are none, it costs one command.
func (b *Broker) seeStaged(ctx context.Context, q *queue) error {
	_, err := b.moveStaged(ctx, q, 0)
	return err
}

// decide moves the runs of a committed call, and drops those of a call whose time is over.
// It returns false while the call may still be committed. Afterwards the ids and unique
// keys given are not the call's, even if its entries are lost or cannot be read.
func (b *Broker) decide(ctx context.Context, q *queue, token string, keys ...string) (bool, error) {
	left, err := b.unstageOthers(ctx, q, token, "expire", 0)
	if err == nil && left == script.StageCommitted {
		_, err = b.unstageOthers(ctx, q, token, "move", 0)
	}
	if err == nil && left != script.StageNotOver && len(keys) > 0 {
		all := append(script.UnstageKeys(&q.QueueKeys, token), keys...)
		args := (&script.UnstageArgs{Mode: "expire", Token: token, MaxDead: b.cfg.MaxDead, Failure: b.bad}).Append(nil)
		_, err = b.repeat(ctx, b.scripts.Unstage, b.clients.Work, all, args...)
	}
	if err != nil {
		return false, b.fail(ctx, "decide about a large call", err)
	}
	return left != script.StageNotOver, nil
}

// sweepStages decides about all large calls of a queue whose producers seem to be dead.
func (b *Broker) sweepStages(ctx context.Context, q *queue) error {
	states, err := repaired(ctx, b, q.Stages, func() (map[string]string, error) {
		return b.clients.Work.HGetAll(ctx, q.Stages)
	})
	if err != nil || len(states) == 0 {
		return b.failed(ctx, "look for large calls", err)
	}
	now, err := b.clients.Work.Time(ctx)
	if err != nil {
		return b.fail(ctx, "look for large calls", err)
	}
	var failed error
	for token, state := range states {
		if strings.HasPrefix(token, wire.StageOpens) && isStale(state, now) {
			_, err := b.decide(ctx, q, token)
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// isStale reports whether a call in this state is one whose producer seems to be dead.
func isStale(state string, now time.Time) bool {
	var ms int64
	if _, err := fmt.Sscanf(state[min(1, len(state)):], "%d", &ms); err != nil {
		return state == "x"
	}
	age := now.Sub(time.UnixMilli(ms)) // a time that is too far ahead is of a clock that was put back since
	switch state[0] {
	case 'c':
		return age < 0 || age >= staleStage
	case 'o':
		return age >= 0 || age < -stageLease
	}
	return true
}

// stageLease is how long a call has for its next page or its commit. Afterwards anybody
// may drop the call.
const stageLease = 10 * time.Second
