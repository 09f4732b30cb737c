package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// giveRuns gives the caller of a survey the runs of one queue.
type giveRuns = func(maintenance.Part[[]*broker.RunInfo])

// SurveyRuns is [Broker.Runs] for many queues. It needs up to six round trips for each 500
// of them, and one more for each 2,000 runs. A queue of more than 200 runs in the state is
// left Apart. To find runs that have ended, SurveyRuns scans the keys of a server once for
// all queues, up to 200,000 of them.
func (b *Broker) SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(maintenance.Part[[]*broker.RunInfo])) error {
	if want == nil {
		want = func(*broker.RunInfo) bool { return true }
	}
	r := &runsSurvey{b: b, state: state, max: max, want: want}
	switch state {
	case broker.StateQueued, broker.StateDelayed, broker.StateRunning:
	case broker.StateSucceeded, broker.StateFailed, broker.StateCancelled:
		return survey(ctx, b, queues, len(queues)+1, part, func(page []*surveyed, give giveRuns) error {
			return r.ended(ctx, page, give)
		})
	default:
		return fmt.Errorf("list runs: unknown state %.32q", string(state))
	}
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveRuns) error {
		some, now, err := nonEmpty(ctx, b, page, func(q *queue) []string { return append(r.keys(q), q.Staged) }, give,
			func(*surveyed) []*broker.RunInfo { return nil })
		if err != nil {
			return err
		}
		if state == broker.StateRunning {
			return r.running(ctx, some, give)
		}
		return r.waiting(ctx, some, now, give)
	})
}

// keys returns the keys of a queue that can have runs in the state, in the order of these.
func (r *runsSurvey) keys(q *queue) []string {
	switch r.state {
	case broker.StateRunning:
		return []string{q.InFlight}
	case broker.StateDelayed:
		return []string{q.Delayed}
	}
	list := []string{}
	for _, n := range readyOrder {
		list = append(list, q.Ready[n])
	}
	return append(list, q.Delayed, q.Backlogs, q.Deferred)
}

// waiting gives the queued or the delayed runs of queues.
func (r *runsSurvey) waiting(ctx context.Context, page []*surveyed, now time.Time, give giveRuns) error {
	due := r.dueRange(now)
	err := r.b.measureUnstaged(ctx, page, func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64] {
		return r.measureWaiting(ctx, pipe, s, due)
	})
	if err != nil {
		return err
	}
	for _, few := range bySize(withoutApart(page, give), surveyPage, (*surveyed).size) {
		lists := map[*surveyed][]waitingReply{}
		err := r.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
			for _, s := range few {
				lists[s] = r.readWaiting(ctx, pipe, s, due)
			}
		})
		if err != nil {
			return err
		}
		found := map[*surveyed][]*broker.RunInfo{}
		for _, s := range few {
			found[s] = r.parseWaiting(s, lists[s])
		}
		if err := r.give(ctx, withoutApart(few, give), found, give); err != nil {
			return err
		}
	}
	return nil
}

// dueRange is when the delayed runs are due that belong to the state. In state queued it
// is up to now: those runs are not moved to a ready list yet.
func (r *runsSurvey) dueRange(now time.Time) *conn.Range {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	if r.state == broker.StateDelayed {
		return &conn.Range{Min: "(" + ms, Max: "+inf", Count: surveyMost}
	}
	return &conn.Range{Min: "-inf", Max: ms, Count: surveyMost}
}

// measureWaiting asks how much is in each of the keys of a queue.
func (r *runsSurvey) measureWaiting(ctx context.Context, pipe conn.Pipeline, s *surveyed, due *conn.Range) (sizes []conn.Reply[int64]) {
	for _, key := range r.keys(s.queue) {
		switch key {
		case s.Delayed:
			sizes = append(sizes, pipe.ZCount(ctx, key, due.Min, due.Max))
		case s.Backlogs, s.Deferred:
			sizes = append(sizes, pipe.ZCard(ctx, key))
		default:
			sizes = append(sizes, pipe.LLen(ctx, key))
		}
	}
	return sizes
}

// readWaiting asks for what is in those keys of a queue that have something.
func (r *runsSurvey) readWaiting(ctx context.Context, pipe conn.Pipeline, s *surveyed, due *conn.Range) (lists []waitingReply) {
	for i, key := range r.keys(s.queue) {
		switch {
		case s.sizes[i] == 0:
		case key == s.Delayed:
			lists = append(lists, waitingReply{key: key, delayed: pipe.ZRangeByScoreWithScores(ctx, key, due)})
		case key == s.Backlogs, key == s.Deferred:
			lists = append(lists, waitingReply{key: key, entries: pipe.ZRange(ctx, key, 0, surveyMost-1)})
		default:
			lists = append(lists, waitingReply{key: key, entries: pipe.LRange(ctx, key, 0, surveyMost-1)})
		}
	}
	return lists
}

// parseWaiting makes the runs of what readWaiting asked for.
func (r *runsSurvey) parseWaiting(s *surveyed, lists []waitingReply) []*broker.RunInfo {
	l := r.listing(s)
	for _, reply := range lists {
		s.note(reply.err())
		reply.addTo(l)
	}
	return l.found
}

// listing returns an empty list for a queue, with room for all that is read.
func (r *runsSurvey) listing(s *surveyed) *listing {
	return &listing{b: r.b, q: s.queue, state: r.state, max: maxListed}
}

// waitingReply is what is read at one key of a queue.
type waitingReply struct {
	key     string
	delayed conn.Reply[[]conn.Scored] // of the delayed runs, with when they are due
	entries conn.Reply[[]string]      // of another key
}

func (r waitingReply) err() error {
	if r.delayed != nil {
		return r.delayed.Err()
	}
	return r.entries.Err()
}

// addTo adds the runs of the key to a list.
func (r waitingReply) addTo(l *listing) {
	if r.delayed != nil {
		l.addDelayed(r.delayed.Val())
		return
	}
	for _, entry := range r.entries.Val() {
		l.add(l.q.StoredRunOf(r.key, entry))
	}
}

// running gives the runs that sessions hold.
func (r *runsSurvey) running(ctx context.Context, page []*surveyed, give giveRuns) error {
	err := r.b.measureUnstaged(ctx, page, func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64] {
		return []conn.Reply[int64]{pipe.SCard(ctx, s.InFlight)}
	})
	if err != nil {
		return err
	}
	for _, some := range bySize(withoutApart(page, give), surveyPage, (*surveyed).size) {
		batchNames, err := r.readInFlight(ctx, some)
		if err != nil {
			return err
		}
		some = withoutApart(some, give)
		err = r.b.measure(ctx, some, func(pipe conn.Pipeline, s *surveyed) (sizes []conn.Reply[int64]) {
			for _, name := range batchNames[s] {
				sizes = append(sizes, pipe.LLen(ctx, s.Batch(name)))
			}
			return sizes
		})
		if err != nil {
			return err
		}
		for _, few := range bySize(withoutApart(some, give), surveyPage, (*surveyed).size) {
			if err := r.batches(ctx, few, batchNames, give); err != nil {
				return err
			}
		}
	}
	return nil
}

// readInFlight returns the names of the batches in flight in each queue.
func (r *runsSurvey) readInFlight(ctx context.Context, page []*surveyed) (map[*surveyed][]string, error) {
	replies := map[*surveyed]conn.Reply[[]string]{}
	err := r.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range page {
			replies[s] = pipe.SMembers(ctx, s.InFlight)
		}
	})
	if err != nil {
		return nil, err
	}
	batchNames := map[*surveyed][]string{}
	for _, s := range page {
		s.note(replies[s].Err())
		batchNames[s] = replies[s].Val()
		slices.SortFunc(batchNames[s], wire.CompareBatches)
	}
	return batchNames, nil
}

// batchReplies are what is read of one batch.
type batchReplies struct {
	runs conn.Reply[[]string]
	done conn.Reply[string]
}

// batches gives the runs in the batches of queues.
func (r *runsSurvey) batches(ctx context.Context, few []*surveyed, batchNames map[*surveyed][]string, give giveRuns) error {
	batches := map[*surveyed][]batchReplies{}
	err := r.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range few {
			batches[s] = nil // ReadMany may repeat
			for _, name := range batchNames[s] {
				batches[s] = append(batches[s], batchReplies{pipe.LRange(ctx, s.Batch(name), 0, -1), pipe.Get(ctx, s.Done(name))})
			}
		}
	})
	if err != nil {
		return err
	}
	found := map[*surveyed][]*broker.RunInfo{}
	for _, s := range few {
		l := r.listing(s)
		for i, name := range batchNames[s] {
			bt := batches[s][i]
			s.note(bt.runs.Err(), bt.done.Err())
			l.addBatch(name, bt.runs.Val(), bt.done.Val())
		}
		found[s] = l.found
	}
	return r.give(ctx, withoutApart(few, give), found, give)
}

// give gives the wanted runs, with the failures in their records.
func (r *runsSurvey) give(ctx context.Context, page []*surveyed, found map[*surveyed][]*broker.RunInfo, give giveRuns) error {
	all := map[*surveyed]bool{}
	records := map[*broker.RunInfo]conn.Reply[string]{}
	for _, s := range page {
		found[s] = slices.DeleteFunc(found[s], func(info *broker.RunInfo) bool { return !r.want(info) })
		all[s] = len(found[s]) <= r.max
		found[s] = found[s][:min(len(found[s]), r.max)]
	}
	err := r.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range page {
			for _, info := range found[s] {
				if saysMore(info) {
					records[info] = pipe.Get(ctx, s.Record(info.Run.ID))
				}
			}
		}
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		for _, info := range found[s] {
			if reply := records[info]; reply != nil {
				noteRecord(info, reply.Val())
			}
		}
		give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: found[s], All: all[s]})
	}
	return nil
}
