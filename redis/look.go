package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// spot is where an element was seen.
type spot struct {
	key, done string
	index     int // in a batch, else -1
	element   string
	entry     string // what is there: the element, in a line more than that
	finished  bool   // it is marked as finished in its batch: nothing waits there
}

// look shows all elements of the queue, the way they move: what is delayed or
// kept by what this version does not know, what is ready, in lines, in flight. An
// element can be shown again. It is mine if it is where this version puts runs.
func (a *audit) look(ctx context.Context, show func(s spot, mine bool)) error {
	others := a.others()
	places := slices.Concat(others, a.q.Waits(), []string{a.q.Lines})
	for i, key := range places {
		f := func(entry string) {
			show(spot{key: key, done: a.q.Flights, index: -1, element: a.q.ElementOf(key, entry), entry: entry}, i >= len(others))
		}
		if err := a.lookInto(ctx, key, f); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
	}
	if err := a.flights(ctx); err != nil {
		return err
	}
	for member := range a.members {
		if err := a.lookAtBatch(ctx, member, show); err != nil {
			return fmt.Errorf("read batch %s: %w", member, err)
		}
	}
	return nil
}

// others returns the queue's keys of which it is not known what they hold.
func (a *audit) others() (list []string) {
	for key := range a.keys {
		if a.q.Unknown(key) {
			list = append(list, key)
		}
	}
	return list
}

// lookInto shows the elements of a list, sorted set or hash. A list is read from
// its tail: what is taken from its head meanwhile then moves nothing out of the
// next page.
func (a *audit) lookInto(ctx context.Context, key string, f func(element string)) error {
	kind, err := conn.WithGrace(ctx, a.b.clients, func(ctx context.Context) (string, error) { return a.node.Type(ctx, key).Result() })
	if err != nil {
		return err
	}
	odd := func(list []string, from int) {
		for i := from; i < len(list); i += 2 {
			f(list[i])
		}
	}
	switch kind {
	case "list":
		for last := int64(-1); ; last -= auditPage {
			start := time.Now()
			list, err := conn.WithGrace(ctx, a.b.clients, func(ctx context.Context) ([]string, error) {
				return a.node.LRange(ctx, key, last-auditPage+1, last).Result()
			})
			if err == nil {
				err = a.pace.after(ctx, a.b.clients, start)
			}
			if err != nil || len(list) == 0 {
				return err
			}
			for _, element := range list {
				f(element)
			}
		}
	case "zset":
		return a.pages(ctx, func(ctx context.Context, cursor uint64) *goredis.ScanCmd {
			return a.node.ZScan(ctx, key, cursor, "", auditPage)
		}, func(list []string) { odd(list, 0) })
	case "hash":
		return a.pages(ctx, func(ctx context.Context, cursor uint64) *goredis.ScanCmd {
			return a.node.HScan(ctx, key, cursor, "", auditPage)
		}, func(list []string) { odd(list, 1) })
	}
	return nil
}

// lookAtBatch shows a batch. It is read before its bitmap, so that a run that
// ends in between is seen as one that is there no more.
func (a *audit) lookAtBatch(ctx context.Context, member string, show func(s spot, mine bool)) error {
	key, done := a.q.Batch(member), a.q.Done(member)
	start := time.Now()
	elements, err := conn.WithGrace(ctx, a.b.clients, func(ctx context.Context) ([]string, error) {
		return a.node.LRange(ctx, key, 0, -1).Result()
	})
	if err != nil || len(elements) == 0 {
		return err
	}
	bitmap, err := conn.WithGrace(ctx, a.b.clients, func(ctx context.Context) (string, error) { return a.node.Get(ctx, done).Result() })
	if err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	if err := a.pace.after(ctx, a.b.clients, start); err != nil {
		return err
	}
	for i, element := range elements {
		finished := wire.IsSet(bitmap, i)
		show(spot{key: key, done: done, index: i, element: element, entry: element, finished: finished}, true)
	}
	return nil
}
