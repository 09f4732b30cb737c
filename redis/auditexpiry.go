package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// checkExpiring checks the queue's tallies and the list of instances: they are hashes, and expire.
// Only who writes there would notice else, and nobody writes to the tallies of an hour that is over.
func (a *audit) checkExpiring(ctx context.Context) error {
	keys := append(a.keysWith(a.q.Base+"tally:"), wire.InstancesKey(a.b.cfg.Prefix))
	for some := range slices.Chunk(keys, auditPage) {
		if err := a.checkExpiringOf(ctx, some); err != nil {
			return fmt.Errorf("check tallies and instances: %w", err)
		}
	}
	return nil
}

// checkExpiringOf checks some of these keys.
func (a *audit) checkExpiringOf(ctx context.Context, keys []string) error {
	start := time.Now()
	types, expiries := make([]conn.Reply[string], len(keys)), make([]conn.Reply[time.Duration], len(keys))
	err := a.b.clients.ReadMany(ctx, func(pipe conn.Pipeline) {
		for i, key := range keys {
			types[i], expiries[i] = pipe.Type(ctx, key), pipe.PTTL(ctx, key)
		}
	})
	if err == nil {
		err = a.pace.after(ctx, a.b.clients, start)
	}
	if err != nil {
		return err
	}
	for i, key := range keys {
		if err := cmp.Or(types[i].Err(), expiries[i].Err()); err != nil {
			return err
		}
		fits := types[i].Val() == "hash"
		if types[i].Val() == "none" || fits && expiries[i].Val() != -1 {
			continue
		}
		a.report.StrayTallies++
		if err := a.letExpire(ctx, key, fits); err != nil {
			return err
		}
	}
	return nil
}

// letExpire has a key of tallies or instances expire, or removes it if it is of a wrong type.
func (a *audit) letExpire(ctx context.Context, key string, fits bool) (err error) {
	switch {
	case !a.repairs():
	case !fits:
		_, err = a.b.clients.Work.Del(ctx, key)
	case key == wire.InstancesKey(a.b.cfg.Prefix):
		_, err = a.b.clients.Work.PExpire(ctx, key, broker.InstanceKept)
	default:
		_, err = a.b.clients.Work.PExpire(ctx, key, broker.TalliesKept)
	}
	return err
}
