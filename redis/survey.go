package redis

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A survey reads many queues by scripts and pipelines of bounded size. It first asks how much is
// in them. A queue with much in it, or with a key that cannot be read, is left apart: the
// caller asks for it by itself.
const (
	surveyQueues = 500   // of a node at once, or in a pipeline that asks which keys exist
	surveyPage   = 2_000 // entries that one script reads
	surveyMost   = 200   // entries that are read of a queue
	surveyAtOnce = 16    // queues of a cluster's node that are read at the same time
)

// surveyed is a queue of a survey.
type surveyed struct {
	*queue
	at    int // its index among the queues of the caller
	apart bool
	info  script.QueueInfo
	ticks map[string]time.Time
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
	if now, err = b.timeOf(ctx, page); err != nil {
		return nil, now, err
	}
	exist, err := b.whichExist(ctx, page, keys)
	if err != nil {
		return nil, now, err
	}
	for i, s := range page {
		switch {
		case s.apart:
			give(maintenance.Part[T]{Queue: s.at, Apart: true})
		case !exist[i]:
			give(maintenance.Part[T]{Queue: s.at, Found: none(s), All: true})
		default:
			some = append(some, s)
		}
	}
	return some, now, nil
}

// whichExist returns of which queues one of the keys exists. On a cluster it leaves a queue apart if
// the server refuses to tell.
func (b *Broker) whichExist(ctx context.Context, page []*surveyed, keys func(*queue) []string) ([]bool, error) {
	exist := make([]bool, len(page))
	if b.clients.Cluster {
		counts := make([]conn.Reply[int64], len(page))
		err := b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
			for i, s := range page {
				counts[i] = pipe.Exists(ctx, keys(s.queue)...)
			}
		})
		for i, s := range page {
			s.note(counts[i].Err())
			exist[i] = counts[i].Val() > 0
		}
		return exist, err
	}
	var all []string
	var of []int
	for i, s := range page {
		for _, key := range keys(s.queue) {
			all, of = append(all, key), append(of, i)
		}
	}
	if len(all) == 0 {
		return exist, nil
	}
	v, err := b.repeat(ctx, b.scripts.WhichExist, b.clients.Work, all)
	if err != nil {
		return nil, err
	}
	found, err := script.ParseWhichExist(v, len(all))
	for i, there := range found {
		exist[of[i]] = exist[of[i]] || there
	}
	return exist, err
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

// giveQueue gives the caller of a survey what is known of one queue.
type giveQueue = func(maintenance.Part[*broker.QueueInfo])

// SurveyQueues is [Broker.Queue] for many queues. On a server it needs a command for each 50 of
// them, on a cluster one for each.
func (b *Broker) SurveyQueues(ctx context.Context, queues []string, part func(maintenance.Part[*broker.QueueInfo])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveQueue) error {
		if err := b.describe(ctx, page, 1); err != nil {
			return err
		}
		now := time.Now()
		for _, s := range withoutApart(page, give) {
			give(maintenance.Part[*broker.QueueInfo]{Queue: s.at, Found: newQueueInfo(s.queue, &s.info, now), All: true})
		}
		return nil
	})
}

// describe reads what is known of the queues of a node. A queue is left apart that has too much in
// flight, large runs, a key that cannot be read, or runs of large calls to move.
func (b *Broker) describe(ctx context.Context, page []*surveyed, parts int) error {
	return b.together(ctx, page, infoQueues, func(few []*surveyed) error {
		var queues []*queue
		for _, s := range few {
			queues = append(queues, s.queue)
		}
		infos, err := b.queueInfos(ctx, queues, parts)
		if err != nil {
			return err
		}
		for i, s := range few {
			s.info = infos[i]
			s.apart = s.apart || s.info.Staged || s.info.Running < 0 || !s.info.Whole || len(s.info.Odd) > 0
		}
		return nil
	})
}

// together does f for so many of the queues of a node at once, or on a cluster for each by itself, a
// few at the same time.
func (b *Broker) together(ctx context.Context, page []*surveyed, n int, f func(few []*surveyed) error) error {
	if !b.clients.Cluster {
		for few := range slices.Chunk(page, n) {
			if err := errors.Join(ctx.Err(), f(few)); err != nil {
				return err
			}
		}
		return nil
	}
	for some := range slices.Chunk(page, surveyAtOnce) {
		errs := make([]error, len(some))
		each(some, func(i int, s *surveyed) { errs[i] = f([]*surveyed{s}) })
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// SurveyLastTicks is [Broker.LastTick] for tasks of many queues. On a server it needs a command for
// each 2,000 tasks, on a cluster one for each queue. A queue of more tasks is left Apart, and so
// is one with a tick that cannot be read.
func (b *Broker) SurveyLastTicks(ctx context.Context, queues []string, tasks map[string][]string, part func(maintenance.Part[map[string]time.Time])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(maintenance.Part[map[string]time.Time])) error {
		for _, s := range page {
			s.apart = len(tasks[s.Name]) > surveyPage
		}
		page = withoutApart(page, give)
		err := b.together(ctx, page, surveyQueues, func(few []*surveyed) error { return b.readLastTicks(ctx, few, tasks) })
		if err != nil {
			return err
		}
		for _, s := range withoutApart(page, give) {
			give(maintenance.Part[map[string]time.Time]{Queue: s.at, Found: s.ticks, All: true})
		}
		return nil
	})
}

// readLastTicks reads the last ticks of tasks of queues: of one server that is no cluster, or of one.
func (b *Broker) readLastTicks(ctx context.Context, queues []*surveyed, tasks map[string][]string) error {
	for len(queues) > 0 {
		var keys []string
		var asked script.LastTicksArgs
		n := 0
		for _, s := range queues {
			if n += len(tasks[s.Name]); n > surveyPage {
				break
			}
			keys, asked = append(keys, s.Ticks), append(asked, tasks[s.Name])
		}
		v, err := b.repeat(ctx, b.scripts.LastTicks, b.clients.Work, keys, asked.Append(nil)...)
		if err != nil {
			return err
		}
		found, err := script.ParseLastTicks(v, asked)
		if err != nil {
			return err
		}
		for i, s := range queues[:len(asked)] {
			s.apart = found[i] == nil && len(asked[i]) > 0
			s.ticks = make(map[string]time.Time, len(found[i]))
			for n, text := range found[i] {
				tick, ok := parseTick(text)
				s.apart = s.apart || !ok && text != ""
				s.ticks[asked[i][n]] = tick
			}
		}
		queues = queues[len(asked):]
	}
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

// SurveyDeadLetters is [Broker.DeadLetters] for many queues. On a server it needs two commands for
// each 50 of them, and one more for each 2,000 letters or mebibyte; on a cluster these are for each
// queue. A queue of more than 200 letters is left Apart.
func (b *Broker) SurveyDeadLetters(ctx context.Context, queues []string, part func(maintenance.Part[[]*broker.DeadLetter])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give giveDead) error {
		if err := b.describe(ctx, page, 0); err != nil {
			return err
		}
		var some []*surveyed
		for _, s := range page {
			s.apart = s.info.Dead > surveyMost || len(s.info.Odd) > 0
			if s.apart || s.info.Dead > 0 {
				some = append(some, s)
			} else {
				give(maintenance.Part[[]*broker.DeadLetter]{Queue: s.at, All: true})
			}
		}
		return b.together(ctx, withoutApart(some, give), infoQueues, func(few []*surveyed) error {
			return b.giveDeadLetters(ctx, few, give)
		})
	})
}

// giveDeadLetters reads the dead letters of queues and gives them.
func (b *Broker) giveDeadLetters(ctx context.Context, few []*surveyed, give giveDead) error {
	letters := map[*surveyed][]*broker.DeadLetter{}
	dead := func(s *surveyed) (keys, kinds []string) { return []string{s.Dead}, []string{"list"} }
	err := b.firstEntries(ctx, few, surveyMost, dead, func(s *surveyed, _ string, entries []script.FirstEntry) {
		for _, e := range entries {
			letters[s] = append(letters[s], wire.ReadDeadLetter(e.Entry))
		}
		// Large ones can be missing.
		s.apart = s.apart || int64(len(entries)) < min(s.info.Dead, surveyMost)
	})
	if err != nil {
		return err
	}
	for _, s := range withoutApart(few, give) {
		give(maintenance.Part[[]*broker.DeadLetter]{Queue: s.at, Found: letters[s], All: true})
	}
	return nil
}
