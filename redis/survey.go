package redis

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A survey reads many queues by pipelines of commands, each of which is a step of its own for
// the server. It first asks which keys exist, then how much is in them, and reads them in
// pages of bounded size. A queue with much in it, or with a key that cannot be read, is
// left apart: the caller asks for it by itself.
const (
	surveyQueues = 500   // in a pipeline that asks which keys exist
	surveyPage   = 2_000 // entries that one pipeline reads, and commands in others
	surveyMost   = listPage
)

// surveyed is a queue of a survey.
type surveyed struct {
	*queue
	at    int // its index among the queues of the caller
	apart bool
	sizes []int64
}

// note leaves the queue apart if the server refused a command for it.
func (s *surveyed) note(errs ...error) {
	for _, err := range errs {
		s.apart = s.apart || err != nil && !conn.IsMissing(err)
	}
}

// survey does f for pages of the queues, those of different nodes at the same time. f gives
// by give what it finds, and an error once a node cannot be reached: survey then leaves
// the node's other queues alone, and gives the error for them.
func survey[T any](ctx context.Context, b *Broker, names []string, size int, part func(maintenance.Part[T]),
	f func(page []*surveyed, give func(maintenance.Part[T])) error,
) error {
	give := giveOnce(ctx, len(names), part)
	var queues []*queue // no more of each than it takes to find its node
	var at []int
	for i, name := range names {
		if err := checkQueue(name); err != nil {
			give(maintenance.Part[T]{Queue: i, Err: err})
			continue
		}
		queues, at = append(queues, &queue{QueueKeys: wire.NodeKeys(b.cfg.Prefix, name)}), append(at, i)
	}
	each(b.byNode(ctx, queues), func(_ int, group []int) {
		var failed error
		for some := range slices.Chunk(group, size) {
			page := make([]*surveyed, len(some))
			for n, i := range some {
				page[n] = &surveyed{queue: b.keysOf(queues[i].Name), at: at[i]}
			}
			if failed == nil && ctx.Err() == nil {
				failed = f(page, give)
			}
			if failed == nil {
				continue
			}
			for _, s := range page {
				give(maintenance.Part[T]{Queue: s.at, Err: b.fail(ctx, "look into queue "+s.Name, failed)})
			}
		}
	})
	return ctx.Err()
}

// giveOnce returns a function that calls part once for each of n queues, one call at a time,
// and not after ctx has ended. It may be called concurrently.
func giveOnce[T any](ctx context.Context, n int, part func(maintenance.Part[T])) func(maintenance.Part[T]) {
	var mu sync.Mutex
	given := make([]bool, n)
	return func(p maintenance.Part[T]) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() == nil && !given[p.Queue] {
			given[p.Queue] = true
			part(p)
		}
	}
}

// nonEmpty returns the queues of a page that have such a key, and the server's time before
// that. It gives none for the others.
func nonEmpty[T any](ctx context.Context, b *Broker, page []*surveyed, keys func(*queue) []string, give func(maintenance.Part[T]), none func(*surveyed) T) (some []*surveyed, now time.Time, err error) {
	counts := make([]conn.Reply[int64], len(page))
	if now, err = b.timeOf(ctx, page); err != nil {
		return nil, now, err
	}
	err = b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for i, s := range page {
			counts[i] = pipe.Exists(ctx, keys(s.queue)...)
		}
	})
	if err != nil {
		return nil, now, err
	}
	for i, s := range page {
		switch s.note(counts[i].Err()); {
		case s.apart:
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
		now, err = node.Time(ctx)
		return err
	})
	return now, err
}

// withoutApart removes the queues from a page that are left apart, and gives that.
func withoutApart[T any](page []*surveyed, give func(maintenance.Part[T])) []*surveyed {
	return slices.DeleteFunc(page, func(s *surveyed) bool {
		if s.apart {
			give(maintenance.Part[T]{Queue: s.at, Apart: true})
		}
		return s.apart
	})
}

// bySize divides a page into parts. The sum of the sizes of each part is bounded.
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

// giveQueue gives the caller of a survey what is known of one queue.
type giveQueue = func(maintenance.Part[*broker.QueueInfo])

// SurveyQueues is [Broker.Queue] for many queues. It needs four round trips for each 500
// of them, and one more for each 1,000 batches in flight.
func (b *Broker) SurveyQueues(ctx context.Context, queues []string, part func(maintenance.Part[*broker.QueueInfo])) error {
	keys := func(q *queue) []string {
		return append(q.Fixed[:7:7], q.Deferred, q.Backlogs, q.Paused, q.Disabled, q.Dead, q.Trimmed, q.Last, q.InFlight, q.Staged)
	}
	none := func(s *surveyed) *broker.QueueInfo {
		return &broker.QueueInfo{Queue: s.Name, Last: map[string]broker.LastRun{}}
	}
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveQueue) error {
		some, now, err := nonEmpty(ctx, b, page, keys, give, none)
		if err != nil {
			return err
		}
		infos, err := b.readInfos(ctx, some, now)
		if err != nil {
			return err
		}
		some = withoutApart(some, give)
		for _, few := range bySize(some, surveyPage/2, func(s *surveyed) int64 { return s.sizes[0] }) {
			if err := b.giveInfos(ctx, few, infos, give); err != nil {
				return err
			}
		}
		return nil
	})
}

// readInfos reads all but the number of running runs of each queue.
func (b *Broker) readInfos(ctx context.Context, page []*surveyed, now time.Time) (map[*surveyed]*infoReplies, error) {
	infos := map[*surveyed]*infoReplies{}
	err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range page {
			infos[s] = askInfo(ctx, pipe, s.queue)
			infos[s].askDelayed(ctx, pipe, s.queue, now)
		}
	})
	if err != nil {
		return nil, err
	}
	for _, s := range page {
		s.note(infos[s].errs()...)
		s.sizes = []int64{int64(len(infos[s].inFlight.Val()))}
		s.apart = s.apart || s.sizes[0] > infoPage || infos[s].staged.Val() > 0
	}
	return infos, nil
}

// giveInfos counts the running runs of each queue, and gives what is known of the queue.
func (b *Broker) giveInfos(ctx context.Context, few []*surveyed, infos map[*surveyed]*infoReplies, give giveQueue) error {
	taken := map[*surveyed][]conn.Reply[int64]{}
	err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range few {
			taken[s] = nil // ReadMany may repeat
			for _, name := range infos[s].inFlight.Val() {
				taken[s] = append(taken[s], pipe.LLen(ctx, s.Batch(name)), pipe.BitCount(ctx, s.Done(name), nil))
			}
		}
	})
	if err != nil {
		return err
	}
	for _, s := range few {
		info := infos[s].info(s.queue)
		for counts := range slices.Chunk(taken[s], 2) {
			length, done := counts[0], counts[1]
			s.note(length.Err(), done.Err())
			info.Running += max(length.Val()-done.Val(), 0)
		}
		if !s.apart {
			give(maintenance.Part[*broker.QueueInfo]{Queue: s.at, Found: info, All: true})
		}
	}
	withoutApart(few, give)
	return nil
}

// SurveyRecords is [Broker.Record] of one id for many queues. It needs two round trips for
// each 500 of them, and some for each that may have a record.
func (b *Broker) SurveyRecords(ctx context.Context, queues []string, id string, part func(maintenance.Part[*broker.Record])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[*broker.Record])) error {
		keys := func(q *queue) []string { return []string{q.Record(id), q.Staged} }
		none := func(*surveyed) *broker.Record { return nil }
		some, _, err := nonEmpty(ctx, b, page, keys, give, none)
		for _, s := range some {
			s.apart = true
		}
		withoutApart(some, give)
		return err
	})
}

// giveDead gives the caller of a survey the dead letters of one queue.
type giveDead = func(maintenance.Part[[]*broker.DeadLetter])

// SurveyDeadLetters is [Broker.DeadLetters] for many queues. It needs three round trips
// for each 500 of them, and one more for each 2,000 letters. A queue of more than 200
// letters is left Apart.
func (b *Broker) SurveyDeadLetters(ctx context.Context, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
	keys := func(q *queue) []string { return []string{q.Dead} }
	none := func(*surveyed) []*broker.DeadLetter { return nil }
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveDead) error {
		some, _, err := nonEmpty(ctx, b, page, keys, give, none)
		if err != nil {
			return err
		}
		err = b.measure(ctx, some, func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64] {
			return []conn.Reply[int64]{pipe.LLen(ctx, s.Dead)}
		})
		if err != nil {
			return err
		}
		for _, few := range bySize(withoutApart(some, give), surveyPage, (*surveyed).size) {
			if err := b.giveDeadLetters(ctx, few, give); err != nil {
				return err
			}
		}
		return nil
	})
}

// giveDeadLetters reads the dead letters of queues and gives them.
func (b *Broker) giveDeadLetters(ctx context.Context, few []*surveyed, give giveDead) error {
	entries := map[*surveyed]conn.Reply[[]string]{}
	err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for _, s := range few {
			entries[s] = pipe.LRange(ctx, s.Dead, 0, surveyMost-1)
		}
	})
	if err != nil {
		return err
	}
	for _, s := range few {
		if s.note(entries[s].Err()); s.apart {
			continue
		}
		var letters []*broker.DeadLetter
		for _, entry := range entries[s].Val() {
			letters = append(letters, wire.ReadDeadLetter(entry))
		}
		give(maintenance.Part[[]*broker.DeadLetter]{Queue: s.at, Found: letters, All: true})
	}
	withoutApart(few, give)
	return nil
}

// measure reads how much is in keys of each queue. It leaves a queue apart that has much.
func (b *Broker) measure(ctx context.Context, page []*surveyed, ask func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64]) error {
	asked := map[*surveyed][]conn.Reply[int64]{}
	err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
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
		s.apart = s.apart || s.size() > surveyMost
	}
	return nil
}

// measureUnstaged is measure. It also leaves a queue apart that has runs of large calls to
// move: a survey does not move them.
func (b *Broker) measureUnstaged(ctx context.Context, page []*surveyed, ask func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64]) error {
	staged := map[*surveyed]conn.Reply[int64]{}
	err := b.measure(ctx, page, func(pipe conn.Pipeline, s *surveyed) []conn.Reply[int64] {
		staged[s] = pipe.Exists(ctx, s.Staged)
		return ask(pipe, s)
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		s.apart = s.apart || staged[s].Val() > 0
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
