package redis

import (
	"context"
	"slices"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A survey looks into many queues by pipelines of commands that read, each of which is
// a step of its own for the server. It asks first which keys there are at all, then how
// much is in these, and reads that in pages of bounded size. What has much in it, or
// cannot be read, it leaves to the call for one queue.
const (
	surveyQueues = 500   // in one pipeline that asks what there is
	surveyPage   = 2_000 // elements that are read in one pipeline, and commands in others
	surveyMost   = listPage
)

// surveyed is a queue of a survey, and what is known of it.
type surveyed struct {
	*queue
	at    int // among the queues asked for
	odd   bool
	sizes []int64
}

// note notes whether the server refused a command for the queue.
func (s *surveyed) note(errs ...error) {
	for _, err := range errs {
		s.odd = s.odd || err != nil && err != goredis.Nil //nolint:errorlint // the library returns it as it is
	}
}

// survey does f for pages of the queues, those of different nodes at the same time, and
// gives part of those of which f reports an error: once a node cannot be reached its other
// queues are left alone. f gives part what it has found by give.
func survey[T any](ctx context.Context, b *Broker, names []string, size int, part func(maintenance.Part[T]),
	f func(page []*surveyed, give func(maintenance.Part[T])) error,
) error {
	var one sync.Mutex
	given := make([]bool, len(names))
	give := func(p maintenance.Part[T]) {
		one.Lock()
		defer one.Unlock()
		if ctx.Err() == nil && !given[p.Queue] {
			given[p.Queue] = true
			part(p)
		}
	}
	var queues []*queue // no more of each than it takes to find its node
	var at []int
	for i, name := range names {
		if err := checkQueue(name); err != nil {
			give(maintenance.Part[T]{Queue: i, Err: err})
			continue
		}
		queues, at = append(queues, &queue{QueueKeys: wire.NodeKeys(b.cfg.Prefix, name)}), append(at, i)
	}
	eachNode(b.byNode(ctx, queues), func(group []int) {
		var away error
		for some := range slices.Chunk(group, size) {
			page := make([]*surveyed, len(some))
			for n, i := range some {
				page[n] = &surveyed{queue: b.keysOf(queues[i].Name), at: at[i]}
			}
			if away == nil && ctx.Err() == nil {
				away = f(page, give)
				if away == nil {
					continue
				}
			}
			for _, s := range page { // but for those that it was told of before
				give(maintenance.Part[T]{Queue: s.at, Err: b.fail(ctx, "look into queue "+s.Name, away)})
			}
		}
	})
	return ctx.Err()
}

// there returns those of a page of which such a key exists, and the server's time before
// that. Of the others give is told that nothing is there.
func there[T any](ctx context.Context, b *Broker, page []*surveyed, keys func(*queue) []string, give func(maintenance.Part[T]), none func(*surveyed) T) (some []*surveyed, now time.Time, err error) {
	counts := make([]*goredis.IntCmd, len(page))
	if now, err = b.timeOf(ctx, page); err != nil {
		return nil, now, err
	}
	err = b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
		for i, s := range page {
			counts[i] = pipe.Exists(ctx, keys(s.queue)...)
		}
	})
	if err != nil {
		return nil, now, err
	}
	for i, s := range page {
		switch s.note(counts[i].Err()); {
		case s.odd:
			give(maintenance.Part[T]{Queue: s.at, Apart: true})
		case counts[i].Val() == 0:
			give(maintenance.Part[T]{Queue: s.at, Found: none(s), All: true})
		default:
			some = append(some, s)
		}
	}
	return some, now, nil
}

// timeOf returns the time of the server that has the queues.
func (b *Broker) timeOf(ctx context.Context, page []*surveyed) (now time.Time, err error) {
	if len(page) == 0 {
		return now, nil
	}
	node, err := b.nodeOf(ctx, page[0].queue)
	if err != nil {
		return now, err
	}
	err = b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
		now, err = conn.WithGrace(ctx, b.clients, func(ctx context.Context) (time.Time, error) { return node.Time(ctx).Result() })
		return err
	})
	return now, err
}

// leave takes those out of a page that are to be asked by themselves.
func leave[T any](page []*surveyed, give func(maintenance.Part[T])) []*surveyed {
	return slices.DeleteFunc(page, func(s *surveyed) bool {
		if s.odd {
			give(maintenance.Part[T]{Queue: s.at, Apart: true})
		}
		return s.odd
	})
}

// bySize divides a page into such as have, by what size says of each, a bounded sum.
func bySize(page []*surveyed, most int64, size func(*surveyed) int64) (parts [][]*surveyed) {
	sum := most
	for _, s := range page {
		n := size(s)
		if sum += n; parts == nil || sum > most {
			parts, sum = append(parts, nil), n
		}
		parts[len(parts)-1] = append(parts[len(parts)-1], s)
	}
	return parts
}

// SurveyQueues is [Broker.Queue] for many queues, by four round trips for each 500 of
// them, and one more for each 1,000 batches in flight.
func (b *Broker) SurveyQueues(ctx context.Context, queues []string, part func(maintenance.Part[*broker.QueueInfo])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[*broker.QueueInfo])) error {
		keys := func(q *queue) []string {
			return append(q.Fixed[:7:7], q.Deferred, q.Waiting, q.Paused, q.Disabled, q.Dead, q.Dropped, q.Last, q.InFlight, q.Staged)
		}
		none := func(s *surveyed) *broker.QueueInfo {
			return &broker.QueueInfo{Queue: s.Name, Last: map[string]broker.LastRun{}}
		}
		some, now, err := there(ctx, b, page, keys, give, none)
		if err != nil {
			return err
		}
		infos := map[*surveyed]*infoReplies{}
		err = b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
			for _, s := range some {
				infos[s] = askInfo(ctx, pipe, s.queue)
				infos[s].askDelayed(ctx, pipe, s.queue, now)
			}
		})
		if err != nil {
			return err
		}
		for _, s := range some {
			s.note(infos[s].errs()...)
			s.sizes = []int64{int64(len(infos[s].inFlight.Val()))}
			s.odd = s.odd || s.sizes[0] > infoPage || infos[s].staged.Val() > 0
		}
		some = leave(some, give)
		for _, few := range bySize(some, surveyPage/2, func(s *surveyed) int64 { return s.sizes[0] }) {
			taken := map[*surveyed][]*goredis.IntCmd{}
			err := b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
				for _, s := range few {
					taken[s] = nil // it may be asked again
					for _, member := range infos[s].inFlight.Val() {
						taken[s] = append(taken[s], pipe.LLen(ctx, s.Batch(member)), pipe.BitCount(ctx, s.Done(member), nil))
					}
				}
			})
			if err != nil {
				return err
			}
			for _, s := range few {
				info := infos[s].info(s.queue)
				for i := 0; i < len(taken[s]); i += 2 {
					s.note(taken[s][i].Err(), taken[s][i+1].Err())
					info.Running += max(taken[s][i].Val()-taken[s][i+1].Val(), 0)
				}
				if !s.odd {
					give(maintenance.Part[*broker.QueueInfo]{Queue: s.at, Found: info, All: true})
				}
			}
			leave(few, give)
		}
		return nil
	})
}

// SurveyRecords is [Broker.Record] of one id for many queues, by two round trips for each
// 500 of them, and some for each that may have a record.
func (b *Broker) SurveyRecords(ctx context.Context, queues []string, id string, part func(maintenance.Part[*broker.Record])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[*broker.Record])) error {
		keys := func(q *queue) []string { return []string{q.Record(id), q.Staged} }
		none := func(*surveyed) *broker.Record { return nil }
		some, _, err := there(ctx, b, page, keys, give, none)
		for _, s := range some {
			s.odd = true
		}
		leave(some, give)
		return err
	})
}

// SurveyDeadLetters is [Broker.DeadLetters] for many queues, by three round trips for each
// 500 of them, and one more for each 2,000 letters. Queues of more than 200 letters it
// leaves to that.
func (b *Broker) SurveyDeadLetters(ctx context.Context, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[[]*broker.DeadLetter])) error {
		keys := func(q *queue) []string { return []string{q.Dead} }
		some, _, err := there(ctx, b, page, keys, give, func(*surveyed) []*broker.DeadLetter { return nil })
		if err != nil {
			return err
		}
		if err := b.measure(ctx, some, func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd {
			return []*goredis.IntCmd{pipe.LLen(ctx, s.Dead)}
		}); err != nil {
			return err
		}
		some = leave(some, give)
		for _, few := range bySize(some, surveyPage, (*surveyed).size) {
			entries := map[*surveyed]*goredis.StringSliceCmd{}
			err := b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
				for _, s := range few {
					entries[s] = pipe.LRange(ctx, s.Dead, 0, surveyMost-1)
				}
			})
			if err != nil {
				return err
			}
			for _, s := range few {
				if s.note(entries[s].Err()); s.odd {
					continue
				}
				var letters []*broker.DeadLetter
				for _, entry := range entries[s].Val() {
					letters = append(letters, wire.ReadDeadLetter(entry))
				}
				give(maintenance.Part[[]*broker.DeadLetter]{Queue: s.at, Found: letters, All: true})
			}
			leave(few, give)
		}
		return nil
	})
}

// measure reads how much is in keys of each of the queues. One that has much is odd.
func (b *Broker) measure(ctx context.Context, page []*surveyed, ask func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd) error {
	asked := map[*surveyed][]*goredis.IntCmd{}
	err := b.clients.ReadMany(ctx, func(pipe goredis.Pipeliner) {
		for _, s := range page {
			asked[s] = ask(pipe, s)
		}
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		s.sizes = nil
		for _, n := range asked[s] {
			s.note(n.Err())
			s.sizes = append(s.sizes, n.Val())
		}
		s.odd = s.odd || s.size() > surveyMost
	}
	return nil
}

// size is how much is in the keys of the queue that were measured.
func (s *surveyed) size() (sum int64) {
	for _, n := range s.sizes {
		sum += n
	}
	return sum
}
