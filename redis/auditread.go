package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// location is where a stored run was seen.
type location struct {
	key, done string
	index     int // in a batch, else -1
	stored    string
	entry     string // the list's or set's entry: the stored run, or more than that
	finished  bool   // it is marked as finished in its batch: nothing waits there
}

// eachRun calls show with all stored runs of the queue, in the order in which they move:
// delayed runs and keys that this version does not know, ready runs, waiting runs, runs
// in flight. A run can be shown twice. mine is true if it is where this version puts runs.
func (a *audit) eachRun(ctx context.Context, show func(s location, mine bool)) error {
	others := a.others()
	places := slices.Concat(others, a.q.Waits(), []string{a.q.Backlogs})
	for i, key := range places {
		f := func(entry string) {
			show(location{key: key, done: a.q.InFlight, index: -1, stored: a.q.StoredRunOf(key, entry), entry: entry}, i >= len(others))
		}
		if err := a.eachRunIn(ctx, key, f); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	if err := a.inFlight(ctx); err != nil {
		return err
	}
	for name := range a.batchNames {
		if err := a.eachRunInBatch(ctx, name, show); err != nil {
			return fmt.Errorf("read batch %s: %w", name, err)
		}
	}
	return nil
}

// others returns the queue's keys that this version does not know.
func (a *audit) others() (list []string) {
	for key := range a.keys {
		if a.q.Unknown(key) {
			list = append(list, key)
		}
	}
	return list
}

// eachRunIn calls f with the entries of a list, sorted set or hash.
func (a *audit) eachRunIn(ctx context.Context, key string, f func(stored string)) error {
	kind, err := a.node.Type(ctx, key)
	if err != nil {
		return err
	}
	everySecond := func(list []string) {
		for pair := range slices.Chunk(list, 2) {
			f(pair[0])
		}
	}
	switch kind {
	case "list":
		return a.eachInList(ctx, key, f)
	case "zset":
		return a.pages(ctx, func(cursor uint64) (conn.Page, error) { return a.node.ZScan(ctx, key, cursor, auditPage) }, everySecond)
	case "hash":
		return a.pages(ctx, func(cursor uint64) (conn.Page, error) { return a.node.HScan(ctx, key, cursor, auditPage) },
			func(list []string) { everySecond(list[min(1, len(list)):]) })
	}
	return nil
}

// eachInList calls f with the entries of a list, from its tail. So a take from the head
// meanwhile moves no entry out of the next page.
func (a *audit) eachInList(ctx context.Context, key string, f func(stored string)) error {
	for last := int64(-1); ; last -= auditPage {
		start := time.Now()
		list, err := a.node.LRange(ctx, key, last-auditPage+1, last)
		if err == nil {
			err = a.pace.after(ctx, a.b.clients, start)
		}
		if err != nil || len(list) == 0 {
			return err
		}
		for _, stored := range list {
			f(stored)
		}
	}
}

// eachRunInBatch shows the runs of a batch. It reads the batch before the bitmap, so that
// a run that ends in between counts as finished.
func (a *audit) eachRunInBatch(ctx context.Context, name string, show func(s location, mine bool)) error {
	key, done := a.q.Batch(name), a.q.Done(name)
	start := time.Now()
	stored, err := a.node.LRange(ctx, key, 0, -1)
	if err != nil || len(stored) == 0 {
		return err
	}
	bitmap, err := a.node.Get(ctx, done)
	if err != nil && !conn.IsMissing(err) {
		return err
	}
	if err := a.pace.after(ctx, a.b.clients, start); err != nil {
		return err
	}
	for i, stored := range stored {
		finished := wire.IsSet(bitmap, i)
		show(location{key: key, done: done, index: i, stored: stored, entry: stored, finished: finished}, true)
	}
	return nil
}

const auditPage = 100

// audit is one audit of one queue.
type audit struct {
	b      *Broker
	q      *queue
	node   conn.Commands // of the server that has the queue
	report maintenance.Report
	pace   pace // of an audit that nobody waits for

	keys       map[string]bool // of the queue
	batchNames map[string]bool // "session:number" of batches that are or may be in flight
	seen       map[string]bool // ids of runs
	twice      map[string]bool // ids that were seen again, perhaps of one that has moved
}

// pages reads all pages of a scan.
func (a *audit) pages(ctx context.Context, read func(cursor uint64) (conn.Page, error), f func([]string)) error {
	cursor := uint64(0)
	for {
		start := time.Now()
		got, err := read(cursor)
		if err == nil {
			err = a.pace.after(ctx, a.b.clients, start)
		}
		if err != nil {
			return err
		}
		f(got.Entries)
		if cursor = got.Cursor; cursor == 0 {
			return nil
		}
	}
}

// inFlight adds the batches that are listed as in flight.
func (a *audit) inFlight(ctx context.Context) error {
	err := a.pages(ctx, func(cursor uint64) (conn.Page, error) {
		return a.node.SScan(ctx, a.q.InFlight, cursor, 1000)
	}, func(list []string) {
		for _, name := range list {
			a.batchNames[name] = true
		}
	})
	if err != nil {
		return fmt.Errorf("read batches in flight: %w", err)
	}
	return nil
}

// script executes a script of the audit. To repeat one is safe, except for what it counts.
func (a *audit) script(ctx context.Context, s script.Script, keys []string, args []any) (any, error) {
	start := time.Now()
	v, err := a.b.repeat(ctx, s, a.b.clients.Work, keys, args...)
	if err == nil {
		err = a.pace.after(ctx, a.b.clients, start)
	}
	return v, err
}

// keysWith returns the keys of the queue that begin so.
func (a *audit) keysWith(opens string) (keys []string) {
	for key := range a.keys {
		if strings.HasPrefix(key, opens) {
			keys = append(keys, key)
		}
	}
	return keys
}

// readLasting shows what read has found at those of the keys that do not expire. It leaves out
// keys of a wrong type. It returns the first refusal of a read: unread runs are not lost ones.
func (a *audit) readLasting(ctx context.Context, keys []string, read func(conn.Pipeline, string) conn.Reply[string], show func(key, value string)) error {
	for list := range slices.Chunk(keys, auditPage) {
		start := time.Now()
		var expiries []conn.Reply[time.Duration]
		var values []conn.Reply[string]
		err := a.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
			expiries, values = nil, nil
			for _, key := range list {
				expiries, values = append(expiries, pipe.PTTL(ctx, key)), append(values, read(pipe, key))
			}
		})
		if err == nil {
			err = a.pace.after(ctx, a.b.clients, start)
		}
		if err != nil {
			return err
		}
		for i, key := range list {
			if err := cmp.Or(unlessOdd(expiries[i].Err()), unlessOdd(values[i].Err())); err != nil {
				return err
			}
			if expiries[i].Val() == -1 && values[i].Err() == nil {
				show(key, values[i].Val())
			}
		}
	}
	return nil
}

// unlessOdd returns the refusal of a read, nil if there was nothing or a key of a wrong type.
func unlessOdd(err error) error {
	if conn.IsMissing(err) || conn.IsWrongType(err) {
		return nil
	}
	return err
}
