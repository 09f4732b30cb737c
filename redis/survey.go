package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// A survey looks into many queues by pipelines of commands that read, each of which is
// a step of its own for the server. It asks first which keys there are at all, then how
// much is in these, and reads that in pages of bounded size. What has much in it, or
// cannot be read, it leaves to the call for one queue.
const (
	surveyQueues = 500   // in one pipeline that asks what there is
	surveyPage   = 2_000 // elements that are read in one pipeline, and commands in others
	surveyMost   = listPage
	surveyLeast  = 10_000 // runs that have ended that are kept before any are left out
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
func survey[T any](ctx context.Context, b *Broker, names []string, size int, part func(broker.Part[T]),
	f func(page []*surveyed, give func(broker.Part[T])) error,
) error {
	var one sync.Mutex
	given := make([]bool, len(names))
	give := func(p broker.Part[T]) {
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
			give(broker.Part[T]{Queue: i, Err: err})
			continue
		}
		queues, at = append(queues, &queue{name: name, flights: b.cfg.Prefix + ":{" + escape(name) + "}:flights"}), append(at, i)
	}
	eachNode(b.byNode(ctx, queues), func(group []int) {
		var away error
		for some := range slices.Chunk(group, size) {
			page := make([]*surveyed, len(some))
			for n, i := range some {
				page[n] = &surveyed{queue: b.keysOf(queues[i].name), at: at[i]}
			}
			if away == nil && ctx.Err() == nil {
				away = f(page, give)
				if away == nil {
					continue
				}
			}
			for _, s := range page { // but for those that it was told of before
				give(broker.Part[T]{Queue: s.at, Err: b.fail(ctx, "look into queue "+s.name, away)})
			}
		}
	})
	return ctx.Err()
}

// readMany executes a pipeline that only reads. It returns an error where the server
// could not be asked: what it refused is for each command to say.
func (b *Broker) readMany(ctx context.Context, add func(pipe goredis.Pipeliner)) error {
	return b.persist(ctx, idempotent, func() error {
		pipe := b.clients.work.Pipeline()
		if add(pipe); pipe.Len() == 0 {
			return nil
		}
		replies, err := promptly(ctx, b, pipe.Exec)
		if err == nil || len(replies) == 0 {
			return err
		}
		for _, reply := range replies {
			var refused goredis.Error
			if err := reply.Err(); err != nil && (!errors.As(err, &refused) || transient(err)) {
				return err
			}
		}
		return nil
	})
}

// there returns those of a page of which such a key exists, and the server's time before
// that. Of the others give is told that nothing is there.
func there[T any](ctx context.Context, b *Broker, page []*surveyed, keys func(*queue) []string, give func(broker.Part[T]), none func(*surveyed) T) (some []*surveyed, now time.Time, err error) {
	counts := make([]*goredis.IntCmd, len(page))
	if now, err = b.timeOf(ctx, page); err != nil {
		return nil, now, err
	}
	err = b.readMany(ctx, func(pipe goredis.Pipeliner) {
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
			give(broker.Part[T]{Queue: s.at, Apart: true})
		case counts[i].Val() == 0:
			give(broker.Part[T]{Queue: s.at, Found: none(s), All: true})
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
	err = b.persist(ctx, idempotent, func() (err error) {
		now, err = promptly(ctx, b, func(ctx context.Context) (time.Time, error) { return node.Time(ctx).Result() })
		return err
	})
	return now, err
}

// leave takes those out of a page that are to be asked by themselves.
func leave[T any](page []*surveyed, give func(broker.Part[T])) []*surveyed {
	return slices.DeleteFunc(page, func(s *surveyed) bool {
		if s.odd {
			give(broker.Part[T]{Queue: s.at, Apart: true})
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
func (b *Broker) SurveyQueues(ctx context.Context, queues []string, part func(broker.Part[*broker.QueueInfo])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(broker.Part[*broker.QueueInfo])) error {
		keys := func(q *queue) []string {
			return append(q.fixed[:7:7], q.aside, q.lines, q.paused, q.disabled, q.dead, q.dropped, q.last, q.flights)
		}
		none := func(s *surveyed) *broker.QueueInfo {
			return &broker.QueueInfo{Queue: s.name, Last: map[string]broker.LastRun{}}
		}
		some, now, err := there(ctx, b, page, keys, give, none)
		if err != nil {
			return err
		}
		infos := map[*surveyed]*infoReplies{}
		err = b.readMany(ctx, func(pipe goredis.Pipeliner) {
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
			s.sizes = []int64{int64(len(infos[s].flights.Val()))}
			s.odd = s.odd || s.sizes[0] > infoPage
		}
		some = leave(some, give)
		for _, few := range bySize(some, surveyPage/2, func(s *surveyed) int64 { return s.sizes[0] }) {
			taken := map[*surveyed][]*goredis.IntCmd{}
			err := b.readMany(ctx, func(pipe goredis.Pipeliner) {
				for _, s := range few {
					taken[s] = nil // it may be asked again
					for _, member := range infos[s].flights.Val() {
						taken[s] = append(taken[s], pipe.LLen(ctx, s.batch(member)), pipe.BitCount(ctx, s.done(member), nil))
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
					give(broker.Part[*broker.QueueInfo]{Queue: s.at, Found: info, All: true})
				}
			}
			leave(few, give)
		}
		return nil
	})
}

// SurveyRecords is [Broker.Record] of one id for many queues, by two round trips for each
// 500 of them, and some for each that may have a record.
func (b *Broker) SurveyRecords(ctx context.Context, queues []string, id string, part func(broker.Part[*broker.Record])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(broker.Part[*broker.Record])) error {
		keys := func(q *queue) []string { return []string{q.record(id), q.staged} }
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
func (b *Broker) SurveyDeadLetters(ctx context.Context, queues []string, part func(broker.Part[[]*broker.DeadLetter])) error {
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(broker.Part[[]*broker.DeadLetter])) error {
		keys := func(q *queue) []string { return []string{q.dead} }
		some, _, err := there(ctx, b, page, keys, give, func(*surveyed) []*broker.DeadLetter { return nil })
		if err != nil {
			return err
		}
		if err := b.measure(ctx, some, func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd {
			return []*goredis.IntCmd{pipe.LLen(ctx, s.dead)}
		}); err != nil {
			return err
		}
		some = leave(some, give)
		for _, few := range bySize(some, surveyPage, (*surveyed).size) {
			entries := map[*surveyed]*goredis.StringSliceCmd{}
			err := b.readMany(ctx, func(pipe goredis.Pipeliner) {
				for _, s := range few {
					entries[s] = pipe.LRange(ctx, s.dead, 0, surveyMost-1)
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
					letters = append(letters, readDead(entry))
				}
				give(broker.Part[[]*broker.DeadLetter]{Queue: s.at, Found: letters, All: true})
			}
			leave(few, give)
		}
		return nil
	})
}

// measure reads how much is in keys of each of the queues. One that has much is odd.
func (b *Broker) measure(ctx context.Context, page []*surveyed, ask func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd) error {
	asked := map[*surveyed][]*goredis.IntCmd{}
	err := b.readMany(ctx, func(pipe goredis.Pipeliner) {
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

// SurveyRuns is [Broker.Runs] for many queues, by up to six round trips for each 500 of
// them, and one more for each 2,000 runs. Queues of more than 200 runs in the state it
// leaves to that. Those that have ended it finds for all queues of a server in
// one look through its keys, up to 200,000 of them.
func (b *Broker) SurveyRuns(ctx context.Context, queues []string, state broker.State, max int, want func(*broker.RunInfo) bool, part func(broker.Part[[]*broker.RunInfo])) error {
	if want == nil {
		want = func(*broker.RunInfo) bool { return true }
	}
	r := &runsSurvey{b: b, state: state, max: max, want: want}
	switch state {
	case broker.StateQueued, broker.StateDelayed, broker.StateRunning:
	case broker.StateSucceeded, broker.StateFailed:
		return survey(ctx, b, queues, len(queues)+1, part, func(page []*surveyed, give func(broker.Part[[]*broker.RunInfo])) error {
			return r.ended(ctx, page, give)
		})
	default:
		return fmt.Errorf("list runs: unknown state %.32q", string(state))
	}
	return survey(ctx, b, queues, surveyQueues, part, func(page []*surveyed, give func(broker.Part[[]*broker.RunInfo])) error {
		some, now, err := there(ctx, b, page, func(q *queue) []string { return append(r.keys(q), q.staged) }, give,
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

// runsSurvey is a survey of runs.
type runsSurvey struct {
	b     *Broker
	state broker.State
	max   int
	want  func(*broker.RunInfo) bool
}

// keys returns those of which one exists while there are runs of the state, in the order
// of these.
func (r *runsSurvey) keys(q *queue) []string {
	switch r.state {
	case broker.StateRunning:
		return []string{q.flights}
	case broker.StateDelayed:
		return []string{q.delayed}
	}
	list := []string{}
	for _, n := range readyOrder {
		list = append(list, q.ready[n])
	}
	return append(list, q.delayed, q.lines, q.aside)
}

// waiting gives the runs of queues that wait. What large calls have committed and not
// moved yet is not for a survey to move.
func (r *runsSurvey) waiting(ctx context.Context, page []*surveyed, now time.Time, give func(broker.Part[[]*broker.RunInfo])) error {
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	from, to := "-inf", ms
	if r.state == broker.StateDelayed {
		from, to = "("+ms, "+inf"
	}
	staged := map[*surveyed]*goredis.IntCmd{}
	err := r.b.measure(ctx, page, func(pipe goredis.Pipeliner, s *surveyed) (sizes []*goredis.IntCmd) {
		staged[s] = pipe.Exists(ctx, s.staged)
		for _, key := range r.keys(s.queue) {
			switch key {
			case s.delayed:
				sizes = append(sizes, pipe.ZCount(ctx, key, from, to))
			case s.lines, s.aside:
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
		err := r.b.readMany(ctx, func(pipe goredis.Pipeliner) {
			for _, s := range few {
				lists[s] = nil
				for i, key := range r.keys(s.queue) {
					switch {
					case s.sizes[i] == 0:
					case key == s.delayed:
						by := &goredis.ZRangeBy{Min: from, Max: to, Count: surveyMost}
						lists[s] = append(lists[s], pipe.ZRangeByScoreWithScores(ctx, key, by))
					case key == s.lines, key == s.aside:
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
			element, _ := z.Member.(string)
			if info := l.add(element); info != nil && l.state == broker.StateDelayed {
				info.Due = time.UnixMilli(int64(z.Score)).UTC()
			}
		}
	case *goredis.StringSliceCmd:
		key, _ := reply.Args()[1].(string)
		for _, entry := range reply.Val() {
			l.add(elementOf(l.q, key, entry))
		}
	}
}

// running gives the runs of queues that sessions hold.
func (r *runsSurvey) running(ctx context.Context, page []*surveyed, give func(broker.Part[[]*broker.RunInfo])) error {
	staged := map[*surveyed]*goredis.IntCmd{}
	err := r.b.measure(ctx, page, func(pipe goredis.Pipeliner, s *surveyed) []*goredis.IntCmd {
		staged[s] = pipe.Exists(ctx, s.staged)
		return []*goredis.IntCmd{pipe.SCard(ctx, s.flights)}
	})
	if err != nil {
		return err
	}
	for _, s := range page {
		s.odd = s.odd || staged[s].Val() > 0
	}
	for _, some := range bySize(leave(page, give), surveyPage, (*surveyed).size) {
		members := map[*surveyed]*goredis.StringSliceCmd{}
		err := r.b.readMany(ctx, func(pipe goredis.Pipeliner) {
			for _, s := range some {
				members[s] = pipe.SMembers(ctx, s.flights)
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
				sizes = append(sizes, pipe.LLen(ctx, s.batch(member)))
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
func (r *runsSurvey) batches(ctx context.Context, few []*surveyed, members map[*surveyed]*goredis.StringSliceCmd, give func(broker.Part[[]*broker.RunInfo])) error {
	batches, done := map[*surveyed][]*goredis.StringSliceCmd{}, map[*surveyed][]*goredis.StringCmd{}
	err := r.b.readMany(ctx, func(pipe goredis.Pipeliner) {
		for _, s := range few {
			batches[s], done[s] = nil, nil
			for _, member := range members[s].Val() {
				batches[s] = append(batches[s], pipe.LRange(ctx, s.batch(member), 0, -1))
				done[s] = append(done[s], pipe.Get(ctx, s.done(member)))
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
func (r *runsSurvey) give(ctx context.Context, page []*surveyed, found map[*surveyed][]*broker.RunInfo, give func(broker.Part[[]*broker.RunInfo])) error {
	all := map[*surveyed]bool{}
	records := map[*broker.RunInfo]*goredis.StringCmd{}
	for _, s := range page {
		found[s] = slices.DeleteFunc(found[s], func(info *broker.RunInfo) bool { return !r.want(info) })
		all[s] = len(found[s]) <= r.max
		found[s] = found[s][:min(len(found[s]), r.max)]
	}
	err := r.b.readMany(ctx, func(pipe goredis.Pipeliner) {
		for _, s := range page {
			for _, info := range found[s] {
				if mayHaveFailed(info) {
					records[info] = pipe.Get(ctx, s.record(info.Run.ID))
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
			if reply := records[info]; reply != nil && parseRecord([]byte(reply.Val()), &record) == nil {
				info.Failure = record.Failure
			}
		}
		give(broker.Part[[]*broker.RunInfo]{Queue: s.at, Found: found[s], All: all[s]})
	}
	return nil
}

// ended gives records of runs of a server's queues that have ended.
func (r *runsSurvey) ended(ctx context.Context, page []*surveyed, give func(broker.Part[[]*broker.RunInfo])) error {
	if len(page) == 0 {
		return nil
	}
	node, err := r.b.nodeOf(ctx, page[0].queue)
	if err != nil {
		return err
	}
	e := &endedSurvey{runsSurvey: r, of: make(map[string]*surveyed, len(page)), found: map[*surveyed][]*broker.RunInfo{}, last: len(page)}
	for i, s := range page {
		e.of[s.base], s.sizes = s, []int64{int64(i)}
	}
	cursor := uint64(0)
	for range maxScans {
		var scan *goredis.ScanCmd
		err := r.b.persist(ctx, idempotent, func() (err error) {
			scan, err = promptly(ctx, r.b, func(ctx context.Context) (*goredis.ScanCmd, error) {
				cmd := node.Scan(ctx, cursor, globOf(r.b.cfg.Prefix+":{")+"}:rec:*", 1000)
				return cmd, cmd.Err()
			})
			return err
		})
		if err != nil {
			return err
		}
		keys, next := scan.Val()
		for keys := range slices.Chunk(keys, listPage) {
			if err := e.add(ctx, keys); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	for _, s := range page {
		switch {
		case s.odd:
			give(broker.Part[[]*broker.RunInfo]{Queue: s.at, Apart: true})
		default:
			all := len(e.found[s]) <= r.max && int(s.sizes[0]) < e.last
			give(broker.Part[[]*broker.RunInfo]{Queue: s.at, Found: e.found[s][:min(len(e.found[s]), r.max)], All: all})
		}
	}
	return nil
}

// endedSurvey is the part of a survey that is about runs that have ended, of one server.
// The sizes of its queues are their places among those of the server.
type endedSurvey struct {
	*runsSurvey
	of    map[string]*surveyed // by what opens their keys
	found map[*surveyed][]*broker.RunInfo
	n     int
	last  int // from here on queues are left out
}

// add adds the wanted ones of records.
func (e *endedSurvey) add(ctx context.Context, keys []string) error {
	ofKey := map[string]*surveyed{}
	for _, key := range keys {
		if end := strings.Index(key, "}:rec:"); end >= 0 {
			if s := e.of[key[:end+2]]; s != nil && !s.odd && int(s.sizes[0]) < e.last {
				ofKey[key] = s
			}
		}
	}
	states := map[string]*goredis.StringCmd{}
	err := e.b.readMany(ctx, func(pipe goredis.Pipeliner) {
		for key := range ofKey {
			states[key] = pipe.GetRange(ctx, key, 0, 0)
		}
	})
	if err != nil {
		return err
	}
	var wanted []string
	for _, key := range keys {
		if s := ofKey[key]; s != nil {
			if s.note(states[key].Err()); states[key].Val() == letterOf(e.state) {
				wanted = append(wanted, key)
			}
		}
	}
	for few := range slices.Chunk(wanted, endedPage) {
		stored := map[string]*goredis.StringCmd{}
		err := e.b.readMany(ctx, func(pipe goredis.Pipeliner) {
			for _, key := range few {
				stored[key] = pipe.Get(ctx, key)
			}
		})
		if err != nil {
			return err
		}
		for _, key := range few {
			s := ofKey[key]
			s.note(stored[key].Err())
			if info := endedRun(s.queue, key, stored[key].Val(), e.state); info != nil && e.want(info) && len(e.found[s]) <= e.max {
				e.found[s] = append(e.found[s], info)
				e.n++
			}
		}
		e.trim()
	}
	return nil
}

// endedPage is how many records are read at once: each can have a large result.
const endedPage = 50

// trim leaves out what is found of queues if those before them have enough.
func (e *endedSurvey) trim() {
	if e.n <= 2*max(e.max, surveyLeast) {
		return
	}
	byPlace := func(a, b *surveyed) int { return int(a.sizes[0] - b.sizes[0]) }
	e.n = 0
	for _, s := range slices.SortedFunc(maps.Keys(e.found), byPlace) {
		if e.n >= max(e.max, surveyLeast) {
			delete(e.found, s)
			e.last = min(e.last, int(s.sizes[0]))
			continue
		}
		e.n += len(e.found[s])
	}
}
