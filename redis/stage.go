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

// A large call would be one long step of the server, during which nobody else is served. So
// it has three parts:
//   - stage.lua stores the runs beside the queue, page by page, and reserves their ids and
//     unique keys.
//   - commit.lua makes them part of the queue, in one short step.
//   - unstage.lua moves them to their lists, page by page.
//
// A call that looks for a run after the second part first helps with the third. So everybody
// sees all of the runs from the second on.

const (
	// inWay is how many keys of undecided calls are checked.
	inWay = 100
	// stageNap is the pause before such a call is checked again.
	stageNap = 20 * time.Millisecond
)

// isLarge reports whether runs are too many or too large for one step.
func isLarge(runs []*broker.TaskRun) bool {
	cost, size := 0, 0
	for _, run := range runs {
		cost += costOf(run)
		size += len(run.Payload)
	}
	return cost > stepCost || size > 2*pageBytes && len(runs) > 1
}

// maxPush is how many runs without records one push may store. It takes the server some 8
// ms.
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

// stage is a large call on its way into the queue.
type stage struct {
	b       *Broker
	q       *queue
	runs    []*broker.TaskRun
	token   string
	group   string // key of the group of which they are the members, "" for none
	entry   string // the token that reserved the group
	refused []broker.Duplicate
	live    bool     // a live run has one of their own ids
	inWay   []string // some of the keys that undecided calls have reserved
}

// queueStaged queues a large call, all of it or nothing.
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
		err = nil // only the reply was lost
	}
	s.moveUntil(ctx)
	return err
}

// moveUntil moves the runs until all are moved or ctx ends. Then takes and recoveries go
// on.
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

// undo removes the pages. It reports whether they are gone for good, or the call was
// committed all the same. After an error a recovery removes them once their time is over.
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

// page returns the next page of runs, from an index on.
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

// fill stores all pages. After a refusal it only checks the other runs.
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
		return s.b.notQueued(ctx, err, false) // without a commit nothing is queued
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

// commit makes the pages part of the queue, unless another call has stored the members of
// the group.
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

// reservers returns the undecided calls that have reserved some of the keys, and for each
// which.
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

// awaitStages blocks until the undecided calls that have reserved some of the keys are
// stored or gone.
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

// move moves the runs of the call. So many as are left are its last ones.
func (s *stage) move(ctx context.Context) (int, error) {
	return s.b.unstage(ctx, s.q, s.token, "move", len(s.runs), 0, func(left int) (*unstaged, error) {
		page := new(unstaged)
		for _, run := range s.page(len(s.runs) - min(left, len(s.runs))) {
			page.add(s.q, run.ID, run.OwnID, run.Rules.OrZero().Unique, run.Keep > 0)
		}
		return page, nil
	})
}
