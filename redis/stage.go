package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A call of many runs would be one long step of the server, which keeps everybody
// else waiting. Its runs are stored beside the queue in pages, where their ids and
// unique keys are reserved, made part of the queue in one short step, and moved to
// where takes find them in pages again (stage.lua, commit.lua, unstage.lua). Until
// that is done whoever looks for a run helps, so that all see them from that step on.

const (
	// inWay is how many keys are looked at for calls that are not decided.
	inWay = 100
	// stageNap is the time between two looks at such a call.
	stageNap = 20 * time.Millisecond
)

// isLarge reports whether runs are too many, or carry too much, for one step.
func isLarge(runs []*broker.TaskRun) bool {
	cost, size := 0, 0
	for _, run := range runs {
		cost += costOf(run)
		size += len(run.Payload)
	}
	return cost > stepCost || size > 2*pageBytes && len(runs) > 1
}

// maxPush is how many runs without a record one push may store, which takes the
// server some 8 ms.
const maxPush = 16_384

// fitsOnePush reports whether runs of one ready list are few enough for one push,
// though too many for a script.
func fitsOnePush(runs []*broker.TaskRun) bool {
	size := 0
	for _, run := range runs {
		size += len(run.Payload)
		if run.Keep > 0 {
			return false
		}
	}
	return len(runs) <= maxPush && size <= 2*pageBytes
}

// stage is the runs of a large call on their way into the queue.
type stage struct {
	b       *Broker
	q       *queue
	runs    []*broker.TaskRun
	token   string
	group   string // key of the group whose members they are, "" for none
	entry   string // and the token of what reserved it
	refused []broker.Duplicate
	live    bool     // a run with an own id of theirs
	inWay   []string // some of the keys that calls own which are not decided
}

// queueStaged queues a large call: whole, or not at all.
func (b *Broker) queueStaged(ctx context.Context, q *queue, runs []*broker.TaskRun, group, entry string) error {
	c, err := claimsOf(q, runs)
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if len(c.refused) > 0 {
		return b.refuseTwice(ctx, c, runs)
	}
	for {
		s := &stage{b: b, q: q, runs: runs, group: group, entry: entry}
		s.token = wire.StageOpens + b.id + "." + strconv.FormatUint(b.calls.Add(1), 36)
		err := s.store(ctx)
		if !errors.Is(err, broker.ErrDuplicate) || len(s.inWay) == 0 {
			return err
		}
		if err := b.awaitStages(ctx, q, s.inWay); err != nil {
			return fmt.Errorf("queue tasks: %w", err)
		}
	}
}

// claimsOf returns the unique keys of runs. It refuses runs of which two have the same own
// id.
func claimsOf(q *queue, runs []*broker.TaskRun) (*claims, error) {
	c, own := new(claims), map[string]bool{}
	for i, run := range runs {
		if run.OwnID {
			if own[run.ID] {
				return nil, fmt.Errorf("run %s: %w", run.ID, broker.ErrDuplicate)
			}
			own[run.ID] = true
		}
		if run.Rules.OrZero().Unique != "" {
			c.add(&q.QueueKeys, i, run)
		}
	}
	return c, nil
}

// store stores the pages, commits and moves them.
func (s *stage) store(ctx context.Context) error {
	if err := s.fill(ctx); err != nil {
		s.undo(ctx)
		return err
	}
	replyLost, err := s.commit(ctx)
	if err != nil && !errors.Is(err, broker.ErrNotReplicated) {
		gone, stored := s.undo(ctx)
		if !stored || s.b.cfg.Acknowledge != Memory {
			return s.b.notQueued(ctx, err, stored || replyLost && !gone)
		}
		err = nil // it was the reply that was lost
	}
	s.moveUntil(ctx)
	return err
}

// moveUntil moves the runs, and comes back at the end of ctx at the latest: who takes,
// or recovers, goes on then.
func (s *stage) moveUntil(ctx context.Context) {
	over := make(chan struct{})
	started := s.b.clients.Spawn(func() {
		defer close(over)
		_, _ = s.move(context.WithoutCancel(ctx))
	})
	if started {
		select {
		case <-over:
		case <-ctx.Done():
		}
	}
}

// undo takes the pages away. It reports whether they are gone for good, or stored
// all the same. Should it fail, they go with the next recovery after their time.
func (s *stage) undo(ctx context.Context) (gone, stored bool) {
	type result struct{ gone, stored bool }
	over := make(chan result, 1)
	started := s.b.clients.Spawn(func() {
		left, err := s.b.unstageOthers(context.WithoutCancel(ctx), s.q, s.token, "drop", 0)
		over <- result{err == nil && left == 0, left == script.StageCommitted}
	})
	if !started {
		return false, false
	}
	select {
	case r := <-over:
		return r.gone, r.stored
	case <-ctx.Done():
	}
	timer := time.NewTimer(conn.Grace)
	defer timer.Stop()
	select {
	case r := <-over:
		return r.gone, r.stored
	case <-timer.C:
		return false, false
	}
}

// page returns the runs from an index on that are one page.
func (s *stage) page(from int) []*broker.TaskRun {
	cost, size := 0, 0
	for i, run := range s.runs[from:] {
		cost, size = cost+costOf(run), size+len(run.Payload)
		if i > 0 && (cost > pageCost || size > pageBytes) {
			return s.runs[from : from+i]
		}
	}
	return s.runs[from:]
}

// fill stores all pages. When a run is refused it looks for others that are.
func (s *stage) fill(ctx context.Context) error {
	for from := 0; from < len(s.runs); {
		page := s.page(from)
		if err := s.fillPage(ctx, from, page); err != nil {
			return err
		}
		from += len(page)
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("queue tasks: %w", err)
		}
	}
	switch {
	case len(s.refused) > 0:
		return &broker.DuplicateError{Runs: s.refused}
	case s.live:
		return broker.ErrDuplicate
	}
	return nil
}

func (s *stage) fillPage(ctx context.Context, from int, page []*broker.TaskRun) error {
	keys := script.StageKeys(&s.q.QueueKeys, s.token)
	args := (&script.StageArgs{
		Token: s.token, Lease: stageLease.Milliseconds(), Before: from, Check: s.live || len(s.refused) > 0,
	}).Append(nil)
	of := make([][]string, len(page))
	for i, run := range page {
		entry, err := wire.AppendStaged(make([]byte, 0, 256+len(run.Payload)), run)
		if err != nil {
			return fmt.Errorf("queue tasks: encode run %s: %w", run.ID, err)
		}
		letters, own := s.q.ReservedBy(run.ID, run.OwnID, run.Rules.OrZero().Unique)
		keys, of[i] = append(keys, own...), own
		args = append(args, entry, letters)
	}
	v, err := s.b.repeat(ctx, s.b.scripts.Stage, s.b.clients.Queue, keys, args...)
	if err != nil {
		return s.b.notQueued(ctx, err, false) // what is not committed is not queued
	}
	reply, err := script.ParseStage(v, len(page))
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if reply.Gone {
		return fmt.Errorf("queue tasks: nothing is stored of %d runs: more than %v passed between two pages of the call", len(s.runs), stageLease)
	}
	s.noteInWay(from, reply.InWay, of)
	return nil
}

// noteInWay notes the runs of a page that have live runs in their way. of are the keys that
// each run of the page reserves.
func (s *stage) noteInWay(from int, others []script.RunInWay, of [][]string) {
	for _, other := range others {
		if other.ID != "" {
			s.refused = append(s.refused, broker.Duplicate{Index: from + other.Run, ID: other.ID})
		} else {
			s.live = true
		}
		if other.Undecided && len(s.inWay) < inWay {
			s.inWay = append(s.inWay, of[other.Run]...)
		}
	}
}

// commit makes the pages part of the queue, unless another call has stored them.
func (s *stage) commit(ctx context.Context) (replyLost bool, err error) {
	keys := script.CommitKeys(&s.q.QueueKeys, s.token)
	if s.group != "" {
		keys = append(keys, s.group)
	}
	args := (&script.CommitArgs{Token: s.token, Runs: len(s.runs), Reserved: s.entry}).Append(nil)
	limited, cancel := context.WithTimeout(ctx, repeatFor)
	defer cancel()
	v, then, replyLost, err := s.b.repeatConfirmed(limited, s.b.scripts.Commit, s.q, conn.MayRepeat, keys, args)
	switch {
	case err != nil:
		return replyLost, err
	case v == int64(script.GroupBegun):
		s.undo(ctx)
	case v != int64(script.Committed):
		return false, fmt.Errorf("nothing is stored of %d runs: their time to be committed is over, or their group is gone", len(s.runs))
	}
	if err := then.Result(); err != nil {
		return false, fmt.Errorf("queue tasks: %w", err)
	}
	return false, nil
}

// reservers returns the calls that are not decided and have reserved some of the keys,
// and for each which of these.
func (b *Broker) reservers(ctx context.Context, q *queue, keys []string) (map[string][]string, error) {
	of := map[string][]string{}
	keys = slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		return !strings.HasPrefix(key, q.Owner("")) && !strings.HasPrefix(key, q.Unique(""))
	})
	for page := range slices.Chunk(keys, inWay) {
		values, err := b.clients.Work.MGet(ctx, page...)
		if err != nil {
			return nil, b.fail(ctx, "read who has ids and unique keys", err)
		}
		for i, v := range values {
			owner, _ := v.(string)
			if token := owner[strings.LastIndexByte(owner, ' ')+1:]; strings.HasPrefix(token, wire.StageOpens) {
				of[token] = append(of[token], page[i])
			}
		}
	}
	return of, nil
}

// awaitStages waits until calls that have reserved some of the keys, and are not
// decided, are stored or gone.
func (b *Broker) awaitStages(ctx context.Context, q *queue, keys []string) error {
	of, err := b.reservers(ctx, q, keys)
	if err != nil {
		return err
	}
	for token, reserved := range of {
		for {
			decided, err := b.decide(ctx, q, token, reserved...)
			if err != nil {
				return err
			}
			if decided {
				break
			}
			if !b.clients.Pause(ctx, stageNap) {
				return errors.Join(ctx.Err(), errors.New("the call that has an id or a unique key is not decided yet"))
			}
		}
	}
	return nil
}

// move moves the runs of this process's own call, which knows them: so many as are left
// are its last ones.
func (s *stage) move(ctx context.Context) (int, error) {
	return s.b.unstage(ctx, s.q, s.token, "move", len(s.runs), 0, func(left int) (*unstaged, error) {
		page := new(unstaged)
		for _, run := range s.page(len(s.runs) - min(left, len(s.runs))) {
			page.add(s.q, run.ID, run.OwnID, run.Rules.OrZero().Unique, run.Keep > 0)
		}
		return page, nil
	})
}
