package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// maxListed is how many runs are listed at most.
	maxListed = 10_000
	// listPage is how many entries one command reads: they can be large.
	listPage = 200
	// maxReads is how many times a list of runs that have ended is read.
	maxReads = 200
)

// Runs returns up to max runs of the queue in a state, at most 10,000. Queued runs come in
// the order in which they will be taken; behind them come runs with limits or a fair
// value, and runs of disabled tasks. A run that moves meanwhile can be missing or there
// twice.
//
// Runs that have ended come the latest first: those of some 10,000 calls that recorded ends.
// Runs skips a key of a wrong type, and returns an error that names the key beside the other
// runs.
func (b *Broker) Runs(ctx context.Context, queueName string, state broker.State, max int) ([]*broker.RunInfo, error) {
	var l *listing
	s, err := b.newSearch(ctx, queueName, state, broker.RunSearch{}, func(e *foundRun) { l.found = append(l.found, e.info) })
	if err != nil {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	l = &listing{b: b, q: s.q, state: state, max: min(max, maxListed)}
	for reads := 0; err == nil && !l.full() && !s.over && reads < maxReads; reads += s.reads {
		s.max, s.look, s.found, s.looked, s.bytes, s.reads = l.max-len(l.found), math.MaxInt, 0, 0, 0, 0
		err = s.run(ctx)
	}
	if err == nil && !state.Ended() {
		err = b.readRecords(ctx, l.found)
	}
	if err == nil && s.odd != nil {
		return l.found, b.fail(ctx, "list "+string(state)+" runs of queue "+s.q.Name, s.odd)
	}
	if err != nil {
		return nil, b.fail(ctx, "list "+string(state)+" runs of queue "+s.q.Name, b.blameIn(ctx, err, s.q))
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
}

func (l *listing) full() bool { return len(l.found) >= l.max }

// add adds a stored run. It skips one that cannot be read: a take makes a dead letter of
// it.
func (l *listing) add(stored string) *broker.RunInfo {
	run := new(broker.TaskRun)
	if l.full() || wire.ParseRun(&l.names, []byte(stored), run) != nil {
		return nil
	}
	info := infoOf(run, l.state)
	l.found = append(l.found, info)
	return info
}

// infoOf describes a run that has not ended, by what is stored of it.
func infoOf(run *broker.TaskRun, state broker.State) *broker.RunInfo {
	info := &broker.RunInfo{Run: run, State: state}
	if attempts := run.History.OrZero().Attempts; len(attempts) > 0 && state != broker.StateRunning {
		info.Started = attempts[len(attempts)-1].Started
	}
	return info
}

// readyOrder is the order of the ready lists: io and cpu of each priority.
var readyOrder = [...]int{0, 3, 1, 4, 2, 5}

// saysMore reports whether a run that has not ended can have a record that says more of it: the
// last failure, or when it was taken.
func saysMore(info *broker.RunInfo) bool {
	return info.Run.Keep > 0 && (info.Run.Attempt > 0 || info.State == broker.StateRunning)
}

// noteRecord notes what the record of a run that has not ended says.
func noteRecord(info *broker.RunInfo, stored string) {
	var record broker.Record
	if wire.ParseRecord([]byte(stored), &record) != nil {
		return
	}
	info.Failure = record.Failure
	if info.State == broker.StateRunning && record.State == broker.StateRunning {
		info.Started = record.StartedAt
	}
}

// readRecords reads what the records of the runs say more.
func (b *Broker) readRecords(ctx context.Context, infos []*broker.RunInfo) error {
	infos = slices.DeleteFunc(slices.Clone(infos), func(info *broker.RunInfo) bool { return !saysMore(info) })
	for len(infos) > 0 {
		var keys []string
		for _, info := range infos[:min(len(infos), listPage)] {
			if b.clients.Cluster && info.Run.Queue != infos[0].Run.Queue {
				break
			}
			q, err := b.queue(info.Run.Queue)
			if err != nil {
				return err
			}
			keys = append(keys, q.Record(info.Run.ID))
		}
		var values []any
		err := b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
			values, err = b.clients.Work.MGet(ctx, keys...)
			return err
		})
		if err != nil || len(values) != len(keys) {
			return cmp.Or(err, errors.New("unexpected reply to MGET"))
		}
		for i, value := range values {
			if stored, ok := value.(string); ok {
				noteRecord(infos[i], stored)
			}
		}
		infos = infos[len(keys):]
	}
	return nil
}

// endedRun returns the run of a record, nil if the run has not ended in this state.
func endedRun(q *queue, key, stored string, state broker.State) *broker.RunInfo {
	record := broker.Record{ID: strings.TrimPrefix(key, q.Record(""))}
	if wire.ParseRecord([]byte(stored), &record) != nil || record.State != state {
		return nil
	}
	info := &broker.RunInfo{
		Run:   &broker.TaskRun{ID: record.ID, Task: record.Task, Queue: q.Name, Attempt: record.Attempt, QueuedAt: record.QueuedAt},
		State: record.State, Failure: record.Failure, Ended: record.EndedAt,
	}
	if n := len(record.Attempts); n > 0 {
		info.Run.History, info.Started = &broker.History{Attempts: record.Attempts}, record.Attempts[n-1].Started
	}
	return info
}
