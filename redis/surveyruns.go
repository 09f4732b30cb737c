package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// SurveyRuns is [Broker.Runs] for many queues, by up to six round trips for each 500 of
// them, and one more for each 2,000 runs. Queues of more than 200 runs in the state it
// leaves to that. Those that have ended it finds for all queues of a server in
// one look through its keys, up to 200,000 of them.
func (b *Broker) SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(maintenance.Part[[]*broker.RunInfo])) error {
	if want == nil {
		want = func(*broker.RunInfo) bool { return true }
	}
	r := &runsSurvey{b: b, state: state, max: max, want: want}
	switch state {
	case broker.StateQueued, broker.StateDelayed, broker.StateRunning:
	case broker.StateSucceeded, broker.StateFailed:
		return survey(ctx, b, queues, len(queues)+1, part, func(page []*surveyed, give func(maintenance.Part[[]*broker.RunInfo])) error {
			return r.ended(ctx, page, give)
		})
	default:
		return fmt.Errorf("list runs: unknown state %.32q", string(state))
	}
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[[]*broker.RunInfo])) error {
		some, now, err := there(ctx, b, page, func(q *queue) []string { return append(r.keys(q), q.Staged) }, give,
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

// keys returns those of which one exists while there are runs of the state, in the order
// of these.
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
	return append(list, q.Delayed, q.Waiting, q.Deferred)
}

// waiting gives the runs of queues that wait. What large calls have committed and not
// moved yet is not for a survey to move.
func (r *runsSurvey) waiting(ctx context.Context, page []*surveyed, now time.Time, give func(maintenance.Part[[]*broker.RunInfo])) error {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	from, to := "-inf", ms
	if r.state == broker.StateDelayed {
		from, to = "("+ms, "+inf"
	}
	staged := map[*surveyed]*goredis.IntCmd{}
	err := r.b.measure(ctx, page, func(pipe goredis.Pipeliner, s *surveyed) (sizes []*goredis.IntCmd) {
		staged[s] = pipe.Exists(ctx, s.Staged)
		for _, key := range r.keys(s.queue) {
			switch key {
			case s.Delayed:
				sizes = append(sizes, pipe.ZCount(ctx, key, from, to))
			case s.Waiting, s.Deferred:
				sizes = append(sizes, pipe.ZCard(ctx, key))
			default:
				sizes = append(sizes, pipe.LLen(ctx, key))
			}
		}
		return sizes
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		s.odd = s.odd || staged[s].Val() > 0
	}
	for _, few := range bySize(leave(page, give), surveyPage, (*surveyed).size) {
		lists := map[*surveyed][]goredis.Cmder{}
		err := r.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
			for _, s := range few {
				lists[s] = nil
				for i, key := range r.keys(s.queue) {
					switch {
					case s.sizes[i] == 0:
					case key == s.Delayed:
						by := &goredis.ZRangeBy{Min: from, Max: to, Count: surveyMost}
						lists[s] = append(lists[s], pipe.ZRangeByScoreWithScores(ctx, key, by))
					case key == s.Waiting, key == s.Deferred:
						lists[s] = append(lists[s], pipe.ZRange(ctx, key, 0, surveyMost-1))
					default:
						lists[s] = append(lists[s], pipe.LRange(ctx, key, 0, surveyMost-1))
					}
				}
			}
		})
		if err != nil {
			return err
		}
		found := map[*surveyed][]*broker.RunInfo{}
		for _, s := range few {
			l := r.listing(s)
			for _, reply := range lists[s] {
				s.note(reply.Err())
				addReply(l, reply)
			}
			found[s] = l.found
		}
		if err := r.give(ctx, leave(few, give), found, give); err != nil {
			return err
		}
	}
	return nil
}

// listing returns the list of one queue, in which all that is read of it has room.
func (r *runsSurvey) listing(s *surveyed) *listing {
	return &listing{b: r.b, q: s.queue, state: r.state, max: maxListed}
}

// addReply adds the runs of one key to a list.
func addReply(l *listing, reply goredis.Cmder) {
	switch reply := reply.(type) {
	case *goredis.ZSliceCmd:
		for _, z := range reply.Val() {
			stored, _ := z.Member.(string)
			if info := l.add(stored); info != nil && l.state == broker.StateDelayed {
				info.Due = time.UnixMilli(int64(z.Score)).UTC()
			}
		}
	case *goredis.StringSliceCmd:
		key, _ := reply.Args()[1].(string)
		for _, entry := range reply.Val() {
			l.add(l.q.StoredRunOf(key, entry))
		}
	}
}

// running gives the runs of queues that sessions hold.
func (r *runsSurvey) running(ctx context.Context, page []*surveyed, give func(maintenance.Part[[]*broker.RunInfo])) error {
	staged := map[*surveyed]*goredis.IntCmd{}
	err := r.b.measure(ctx, page, func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd {
		staged[s] = pipe.Exists(ctx, s.Staged)
		return []*goredis.IntCmd{pipe.SCard(ctx, s.InFlight)}
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		s.odd = s.odd || staged[s].Val() > 0
	}
	for _, some := range bySize(leave(page, give), surveyPage, (*surveyed).size) {
		members := map[*surveyed]*goredis.StringSliceCmd{}
		err := r.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
			for _, s := range some {
				members[s] = pipe.SMembers(ctx, s.InFlight)
			}
		})
		if err != nil {
			return err
		}
		for _, s := range some {
			s.note(members[s].Err())
			slices.Sort(members[s].Val())
		}
		some = leave(some, give)
		err = r.b.measure(ctx, some, func(pipe goredis.Pipeliner, s *surveyed) (sizes []*goredis.IntCmd) {
			for _, member := range members[s].Val() {
				sizes = append(sizes, pipe.LLen(ctx, s.Batch(member)))
			}
			return sizes
		})
		if err != nil {
			return err
		}
		for _, few := range bySize(leave(some, give), surveyPage, (*surveyed).size) {
			if err := r.batches(ctx, few, members, give); err != nil {
				return err
			}
		}
	}
	return nil
}

// batches gives the runs of queues whose batches are known.
func (r *runsSurvey) batches(ctx context.Context, few []*surveyed, members map[*surveyed]*goredis.StringSliceCmd, give func(maintenance.Part[[]*broker.RunInfo])) error {
	batches, done := map[*surveyed][]*goredis.StringSliceCmd{}, map[*surveyed][]*goredis.StringCmd{}
	err := r.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
		for _, s := range few {
			batches[s], done[s] = nil, nil
			for _, member := range members[s].Val() {
				batches[s] = append(batches[s], pipe.LRange(ctx, s.Batch(member), 0, -1))
				done[s] = append(done[s], pipe.Get(ctx, s.Done(member)))
			}
		}
	})
	if err != nil {
		return err
	}
	found := map[*surveyed][]*broker.RunInfo{}
	for _, s := range few {
		l := r.listing(s)
		for i, member := range members[s].Val() {
			s.note(batches[s][i].Err(), done[s][i].Err())
			l.addBatch(member, batches[s][i].Val(), done[s][i].Val())
		}
		found[s] = l.found
	}
	return r.give(ctx, leave(few, give), found, give)
}

// give gives what is wanted of what was found, with the failures that records tell of.
func (r *runsSurvey) give(ctx context.Context, page []*surveyed, found map[*surveyed][]*broker.RunInfo, give func(maintenance.Part[[]*broker.RunInfo])) error {
	all := map[*surveyed]bool{}
	records := map[*broker.RunInfo]*goredis.StringCmd{}
	for _, s := range page {
		found[s] = slices.DeleteFunc(found[s], func(info *broker.RunInfo) bool { return !r.want(info) })
		all[s] = len(found[s]) <= r.max
		found[s] = found[s][:min(len(found[s]), r.max)]
	}
	err := r.b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
		for _, s := range page {
			for _, info := range found[s] {
				if mayHaveFailed(info) {
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
			var record broker.Record
			if reply := records[info]; reply != nil && wire.ParseRecord([]byte(reply.Val()), &record) == nil {
				info.Failure = record.Failure
			}
		}
		give(maintenance.Part[[]*broker.RunInfo]{Queue: s.at, Found: found[s], All: all[s]})
	}
	return nil
}
