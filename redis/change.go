package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Why a run or a dead letter stays that was to be changed.
const (
	stayMoved      = "it was taken or changed meanwhile"
	stayEnded      = "it ended meanwhile"
	stayUnreadable = "it cannot be read, and can only be deleted"
)

// ChangeRuns changes the runs of a queue that are in a state and match. It finds them as
// [Broker.FindRuns] does. Each script changes as many as hold up the server for some
// milliseconds; in the middle of a list of a million runs that is some ten milliseconds.
//
// Runs in flight are cancelled, and delayed ones run now, a thousand in each script. If a reply
// was lost, a run that was not there any more counts as changed.
func (b *Broker) ChangeRuns(ctx context.Context, queueName string, state broker.State, r broker.RunSearch, c broker.RunChange) (*broker.ChangePage, error) {
	if (c.Cancel != nil) == c.RunNow {
		return nil, errors.New("change runs: the change is Cancel or RunNow: one of both")
	}
	if state.Ended() || c.RunNow && state != broker.StateDelayed {
		return nil, fmt.Errorf("change runs: those in state %.32q have nothing to change", string(state))
	}
	var found []*foundRun
	s, err := b.newSearch(ctx, queueName, state, r, func(e *foundRun) { found = append(found, e) })
	if err != nil {
		return nil, fmt.Errorf("change runs: %w", err)
	}
	s.removes = state != broker.StateRunning
	err = s.run(ctx)
	ch := &changePage{b: b, q: s.q, page: new(broker.ChangePage), failure: c.Cancel, gone: map[string]int64{}}
	if err == nil {
		err = ch.apply(ctx, state, found)
	}
	s.at.removed(ch.gone[s.key()])
	ch.page.Looked, ch.page.Total, ch.page.After = s.looked, s.total, s.after()
	if err != nil {
		ch.page.After = r.After // to look again at what was not changed
	}
	if err = cmp.Or(err, s.odd); err != nil {
		return ch.page, b.fail(ctx, "change "+string(state)+" runs of queue "+s.q.Name, b.blameIn(ctx, err, s.q))
	}
	return ch.page, nil
}

// key returns the key of the place where the search is.
func (s *pageSearch) key() string { return s.places[s.at.place].key }

// changePage is one page of a change.
type changePage struct {
	b       *Broker
	q       *queue
	page    *broker.ChangePage
	failure *broker.Failure  // of runs that are cancelled
	gone    map[string]int64 // how many entries of a key are not there any more
	sent    bool             // entries were added to the outbox
}

// note notes what became of an entry. doubtful reports that a try whose reply was lost may
// have changed it.
func (ch *changePage) note(key, id string, change script.EntryChange, doubtful bool, gone string) {
	switch {
	case change.Err != nil:
		ch.stays(id, change.Err.Error())
		return
	case change.Done || doubtful:
		ch.page.Changed++
	default:
		ch.stays(id, gone)
	}
	ch.gone[key]++
}

func (ch *changePage) stays(id, why string) {
	ch.page.Stayed = append(ch.page.Stayed, broker.Stay{ID: id, Why: why})
}

// apply changes what was found, place by place.
func (ch *changePage) apply(ctx context.Context, state broker.State, found []*foundRun) (err error) {
	change := ch.endAll
	switch {
	case state == broker.StateRunning:
		change = ch.cancelInFlight
	case ch.failure == nil:
		change = ch.runNow
	}
	for len(found) > 0 && err == nil {
		n := 1
		for n < len(found) && (found[n].key == found[0].key || state == broker.StateRunning) {
			n++
		}
		err = change(ctx, found[:n])
		found = found[n:]
	}
	if ch.sent {
		_ = ch.q.mover.move(context.WithoutCancel(ctx)) // after an error the next recovery does it
	}
	return err
}

// some returns how many of the entries one script may change. n bounds them, and bytes what
// it gets.
func some(found []*foundRun, n int) []*foundRun {
	size := 0
	for i, e := range found {
		if size += len(e.entry); i >= n || i > 0 && size > searchBytes {
			return found[:i]
		}
	}
	return found
}

// endAll ends runs that wait at one key.
func (ch *changePage) endAll(ctx context.Context, found []*foundRun) error {
	removed := int64(0)
	for len(found) > 0 {
		page := some(found, found[0].fewAt(0))
		ends := make([]*ending, 0, len(page))
		for i, e := range page {
			end, err := newEnding(ch.q, ch.q.StoredRunOf(e.key, e.entry), ch.failure)
			if err != nil {
				return fmt.Errorf("cancel run %s: %w", e.info.Run.ID, err)
			}
			end.entry, end.index, end.behind = e.entry, e.index-removed, e.behind
			if ends = append(ends, end); i+1 >= e.fewAt(len(end.operations)) {
				break
			}
		}
		page = page[:len(ends)]
		before := ch.gone[page[0].key]
		err := ch.end(ctx, page[0].key, ends, func(i int, change script.EntryChange, doubtful bool) {
			ch.note(page[i].key, page[i].info.Run.ID, change, doubtful, stayMoved)
		})
		if err != nil {
			return err
		}
		removed += ch.gone[page[0].key] - before
		found = found[len(page):]
	}
	return nil
}

// fewAt returns how many entries with so many operations one script may end there. To remove some
// from a list, the server goes through all between them and the nearer end; to find each,
// through the nodes of the list. Of a million runs of 150 bytes, this takes 10 ms and 0.06 ms in the
// middle.
func (e *foundRun) fewAt(operations int) int {
	const least, most, budget = 25, 400, 11_000 // the budget in microseconds
	deep := float64(min(e.index, e.behind))
	return int(max(least, min(most, (budget-deep*0.02)/(10+float64(operations)*6+deep*0.00011))))
}

// ending is an entry that is to be ended.
type ending struct {
	outcome
	entry         string
	index, behind int64
}

// end ends entries at a key in one script, and calls note for each.
func (ch *changePage) end(ctx context.Context, key string, ends []*ending, note func(i int, change script.EntryChange, doubtful bool)) error {
	keys := script.EndWaitingKeys(&ch.q.QueueKeys, key)
	args := (&script.EndRunsArgs{MaxDead: ch.b.cfg.MaxDead, BeforeID: len(ch.q.Record("")), Entries: len(ends)}).Append(nil)
	for _, end := range ends {
		keys = append(keys, end.keys...)
		args = append(args, end.index, end.behind, end.entry, end.operations)
	}
	for _, end := range ends {
		args = append(args, end.args...)
	}
	v, doubtful, err := ch.b.repeatTracked(ctx, ch.b.scripts.EndRuns, ch.b.clients.Work, conn.ReadAny, keys, args...)
	if err != nil {
		return err
	}
	reply, err := script.ParseEndRuns(v, len(ends))
	if err != nil {
		return err
	}
	for i, change := range reply.Changes {
		note(i, change, doubtful)
	}
	ch.sent = ch.sent || reply.Sent || doubtful
	ch.b.notifyWaiters(ctx, ch.q, reply.Waiters)
	return nil
}

// cancelInFlight notes for the sessions that runs are to end.
func (ch *changePage) cancelInFlight(ctx context.Context, found []*foundRun) error {
	failure := wire.AppendFailureFields(nil, ch.failure)
	for page := range slices.Chunk(found, searchPage) {
		var keys []string
		args := (&script.CancelRunsArgs{Failure: failure, Keep: cancelKept.Milliseconds()}).Append(nil)
		for _, e := range page {
			session, number, _ := strings.Cut(e.name, ":")
			keys = append(keys, ch.q.Batch(e.name), ch.q.Done(e.name), ch.q.Cancels(session))
			args = append(args, number, e.index, e.info.Run.ID)
		}
		v, doubtful, err := ch.b.repeatTracked(ctx, ch.b.scripts.CancelRuns, ch.b.clients.Work, conn.ReadAny, keys, args...)
		if err != nil {
			return err
		}
		changes, err := script.ParseCancelRuns(v, len(page))
		if err != nil {
			return err
		}
		for i, e := range page {
			ch.note(e.key, e.info.Run.ID, changes[i], doubtful, stayEnded)
		}
	}
	return nil
}

// runNow makes delayed runs due at once.
func (ch *changePage) runNow(ctx context.Context, found []*foundRun) error {
	for len(found) > 0 {
		page := some(found, 250)
		found = found[len(page):]
		keys := script.RunNowKeys(&ch.q.QueueKeys)
		args := (&script.RunNowArgs{Runs: len(page)}).Append(nil)
		for _, e := range page {
			run := e.info.Run
			stored, err := dueNow(run, e.entry)
			if err != nil {
				return fmt.Errorf("run %s now: %w", run.ID, err)
			}
			record := 0
			if run.Keep > 0 {
				record, keys = 1, append(keys, ch.q.Record(run.ID))
			}
			args = append(args, wire.ReadyList(run), record, e.entry, stored)
		}
		v, doubtful, err := ch.b.repeatTracked(ctx, ch.b.scripts.RunNow, ch.b.clients.Work, conn.ReadAny, keys, args...)
		if err != nil {
			return err
		}
		changes, err := script.ParseRunNow(v, len(page))
		if err != nil {
			return err
		}
		for i, e := range page {
			ch.note(e.key, e.info.Run.ID, changes[i], doubtful, stayMoved)
		}
	}
	return nil
}

// dueNow returns the stored run in place of the entry of a delayed one: what waits counts from now.
func dueNow(run *broker.TaskRun, entry string) ([]byte, error) {
	again, now := *run, time.Now()
	if run.History != nil && !run.History.Due.IsZero() {
		history := *run.History
		history.Due = now
		again.History = &history
	} else {
		again.Due, again.Delay = now, 0
	}
	stored, err := wire.AppendRun(make([]byte, 0, len(entry)+16), &again)
	if err == nil {
		stored[1] |= entry[1] & (0xff << wire.PastShift & 0xff)
	}
	return stored, err
}
