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
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// maxListed is how many runs are listed at most.
	maxListed = 10_000
	// listPage is how many entries one command reads: they can be large.
	listPage = 200
	// maxScans is how many pages of a thousand keys are scanned for records.
	maxScans = 200
)

// Runs returns up to max runs of the queue in a state, at most 10,000. Queued runs come in
// the order in which they will be taken; behind them come runs with limits or a fair
// value, and runs of disabled tasks. A run that moves meanwhile can be missing or there
// twice.
//
// To find runs that have ended, Runs scans up to 200,000 keys of the server. It is for
// people, and on a server with many keys may miss some. It skips a key of a wrong type,
// and returns an error that names the key beside the other runs.
func (b *Broker) Runs(ctx context.Context, queueName string, state broker.State, max int) ([]*broker.RunInfo, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	if err := b.seeStaged(ctx, q); err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	l := &listing{b: b, q: q, state: state, max: min(max, maxListed)}
	switch state {
	case broker.StateQueued:
		err = l.queued(ctx)
	case broker.StateDelayed:
		err = l.delayed(ctx, "(", "+inf")
	case broker.StateRunning:
		err = l.running(ctx)
	case broker.StateSucceeded, broker.StateFailed:
		err = l.ended(ctx)
	default:
		return nil, fmt.Errorf("list runs: unknown state %.32q", string(state))
	}
	if err == nil && !state.Ended() {
		err = l.readFailures(ctx)
	}
	if err == nil && l.odd != nil {
		return l.found, b.fail(ctx, "list "+string(state)+" runs of queue "+q.Name, l.odd)
	}
	if err != nil {
		return nil, b.fail(ctx, "list "+string(state)+" runs of queue "+q.Name, b.blameIn(ctx, err, q))
	}
	return l.found, nil
}

// listing is a list of runs that is being made.
type listing struct {
	b     *Broker
	q     *queue
	state broker.State
	max   int
	names broker.Decoder
	found []*broker.RunInfo
	odd   error // of keys of a wrong type, which were skipped
}

// pass skips a key of a wrong type: it keeps the error in l.odd. It returns other errors.
func (l *listing) pass(ctx context.Context, err error, keys ...string) error {
	if !conn.IsWrongType(err) {
		return err
	}
	l.odd = errors.Join(l.odd, l.b.blame(ctx, err, keys...))
	return nil
}

func (l *listing) full() bool { return len(l.found) >= l.max }

// add adds a stored run. It skips one that cannot be read: a take makes a dead letter of
// it.
func (l *listing) add(stored string) *broker.RunInfo {
	run := new(broker.TaskRun)
	if l.full() || wire.ParseRun(&l.names, []byte(stored), run) != nil {
		return nil
	}
	info := &broker.RunInfo{Run: run, State: l.state}
	l.found = append(l.found, info)
	return info
}

// readyOrder is the order of the ready lists: io and cpu of each priority.
var readyOrder = [...]int{0, 3, 1, 4, 2, 5}

// queued lists the runs that are ready, due, waiting or deferred.
func (l *listing) queued(ctx context.Context) error {
	for _, n := range readyOrder {
		if err := l.addPages(ctx, l.q.Ready[n], l.b.clients.Work.LRange); err != nil {
			return err
		}
	}
	if err := l.delayed(ctx, "-inf", ""); err != nil {
		return err
	}
	for _, key := range []string{l.q.Backlogs, l.q.Deferred} {
		if err := l.addPages(ctx, key, l.b.clients.Work.ZRange); err != nil {
			return err
		}
	}
	return nil
}

// addPages adds the runs at a key. read reads its entries from an index to another.
func (l *listing) addPages(ctx context.Context, key string, read func(ctx context.Context, key string, from, to int64) ([]string, error)) error {
	for from := int64(0); !l.full(); from += listPage {
		list, err := read(ctx, key, from, from+listPage-1)
		if err = l.pass(ctx, err, key); err != nil {
			return err
		}
		for _, entry := range list {
			l.add(l.q.StoredRunOf(key, entry))
		}
		if len(list) < listPage {
			break
		}
	}
	return nil
}

// delayed lists delayed runs by when they are due. It appends the server's time to from,
// or to an empty to.
func (l *listing) delayed(ctx context.Context, from, to string) error {
	now, err := l.b.clients.Work.Time(ctx)
	if err != nil {
		return err
	}
	ms := strconv.FormatInt(now.UnixMilli(), 10)
	if to == "" {
		to = ms
	} else {
		from += ms
	}
	for at := int64(0); !l.full(); at += listPage {
		list, err := l.b.clients.Work.ZRangeByScore(ctx, l.q.Delayed, &conn.Range{Min: from, Max: to, Offset: at, Count: listPage})
		if err = l.pass(ctx, err, l.q.Delayed); err != nil {
			return err
		}
		l.addDelayed(list)
		if len(list) < listPage {
			break
		}
	}
	return nil
}

// addDelayed adds runs that are or were delayed.
func (l *listing) addDelayed(list []conn.Scored) {
	for _, z := range list {
		stored, _ := z.Member.(string)
		if info := l.add(stored); info != nil && l.state == broker.StateDelayed {
			info.Due = time.UnixMilli(int64(z.Score)).UTC()
		}
	}
}

// running lists the runs that sessions hold.
func (l *listing) running(ctx context.Context) error {
	batchNames, err := l.b.clients.Work.SMembers(ctx, l.q.InFlight)
	if err != nil {
		return err
	}
	slices.SortFunc(batchNames, wire.CompareBatches)
	for _, name := range batchNames {
		if l.full() {
			break
		}
		pipe := l.b.clients.Work.Pipeline()
		batch, done := pipe.LRange(ctx, l.q.Batch(name), 0, -1), pipe.Get(ctx, l.q.Done(name))
		if err := l.pass(ctx, l.b.clients.ReadAll(ctx, pipe), l.q.Batch(name), l.q.Done(name)); err != nil {
			return err
		}
		l.addBatch(name, batch.Val(), done.Val())
	}
	return nil
}

// addBatch adds the runs of a batch that are not finished.
func (l *listing) addBatch(name string, batch []string, done string) {
	session, _, _ := strings.Cut(name, ":")
	for i, stored := range batch {
		if wire.IsSet(done, i) {
			continue
		}
		if info := l.add(stored); info != nil {
			info.Session = session
			info.Run.Deliveries++
		}
	}
}

// mayHaveFailed reports whether a run that has not ended can have a record with a failure.
func mayHaveFailed(info *broker.RunInfo) bool { return info.Run.Keep > 0 && info.Run.Attempt > 0 }

// readFailures reads the last failures of the runs that have records.
func (l *listing) readFailures(ctx context.Context) error {
	kept := slices.DeleteFunc(slices.Clone(l.found), func(info *broker.RunInfo) bool { return !mayHaveFailed(info) })
	for page := range slices.Chunk(kept, listPage) {
		keys := make([]string, len(page))
		for i, info := range page {
			keys[i] = l.q.Record(info.Run.ID)
		}
		values, err := l.b.clients.Work.MGet(ctx, keys...)
		if err != nil {
			return err
		}
		for i, info := range page {
			var record broker.Record
			if stored, ok := values[i].(string); ok && wire.ParseRecord([]byte(stored), &record) == nil {
				info.Failure = record.Failure
			}
		}
	}
	return nil
}

// ended lists records of runs that have ended.
func (l *listing) ended(ctx context.Context) error {
	node, err := l.b.nodeOf(ctx, l.q)
	if err != nil {
		return err
	}
	opens, cursor := l.q.Record(""), uint64(0)
	for range maxScans {
		got, err := node.Scan(ctx, cursor, wire.GlobOf(opens), 1000)
		if err != nil {
			return err
		}
		for keys := range slices.Chunk(got.Entries, listPage) {
			if err := l.addEnded(ctx, node, keys); err != nil || l.full() {
				return err
			}
		}
		if cursor = got.Cursor; cursor == 0 {
			return nil
		}
	}
	return nil
}

// addEnded adds the runs of a page of records that are in the state.
func (l *listing) addEnded(ctx context.Context, node conn.Commands, keys []string) error {
	states := make([]conn.Reply[string], len(keys))
	pipe := node.Pipeline()
	for i, key := range keys {
		states[i] = pipe.GetRange(ctx, key, 0, 0)
	}
	if err := l.b.clients.ReadAll(ctx, pipe); err != nil && !conn.IsWrongType(err) {
		return err
	}
	for i, key := range keys {
		if err := l.pass(ctx, states[i].Err(), key); err != nil {
			return err
		}
		if states[i].Val() != wire.LetterOf(l.state) || l.full() {
			continue
		}
		if err := l.addRecord(ctx, node, key); err != nil {
			return err
		}
	}
	return nil
}

// addRecord adds the run of a record.
func (l *listing) addRecord(ctx context.Context, node conn.Commands, key string) error {
	stored, err := node.Get(ctx, key)
	if conn.IsMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info := endedRun(l.q, key, stored, l.state); info != nil {
		l.found = append(l.found, info)
	}
	return nil
}

// endedRun returns the run of a record, nil if the run has not ended in this state.
func endedRun(q *queue, key, stored string, state broker.State) *broker.RunInfo {
	record := broker.Record{ID: strings.TrimPrefix(key, q.Record(""))}
	if wire.ParseRecord([]byte(stored), &record) != nil || record.State != state {
		return nil
	}
	return &broker.RunInfo{
		Run:   &broker.TaskRun{ID: record.ID, Task: record.Task, Queue: q.Name, Attempt: record.Attempt},
		State: record.State, Failure: record.Failure,
	}
}
