package web

import (
	"context"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	"github.com/taskgen/taskgen/dashboard/internal/live"
	taskrt "github.com/taskgen/taskgen/runtime"
)

const (
	lookAge     = time.Second     // what was read of the fleet is shown for so long
	lookTimeout = 3 * time.Second // of reading it
)

// looks are what pages share.
type looks struct {
	overview  *live.Shared[*fleet]
	dead      *live.Shared[*taskrt.DeadPage] // the newest
	histories *live.Keyed[historyKey, *history]
}

// fleet is what the broker knew of queues, schedules and instances at one time.
type fleet struct {
	*taskrt.Overview
	Instances    []*broker.Instance
	InstancesErr error // they are unknown
}

func newLooks(cfg Config) looks {
	return looks{
		dead: live.NewShared(deadLookAge, lookTimeout, func(ctx context.Context) (*taskrt.DeadPage, error) {
			return cfg.Inspector.Dead(ctx, taskrt.RunFilter{}, taskrt.PageOptions{Max: lastDead, Look: lastDead})
		}),
		histories: newHistories(cfg),
		overview: live.NewShared(lookAge, lookTimeout, func(ctx context.Context) (*fleet, error) {
			o, err := cfg.Inspector.Overview(ctx)
			if err != nil {
				return nil, err
			}
			if len(o.Queues.Queues) == 0 && len(o.Queues.Skipped) > 0 { // it is away, and not empty
				return nil, o.Queues.Skipped[0].Err
			}
			f := &fleet{Overview: o}
			f.Instances, f.InstancesErr = cfg.Inspector.Instances(ctx)
			return f, nil
		}),
	}
}

// forget has the next page read anew, as something was changed.
func (l *looks) forget() {
	l.overview.Forget()
	l.dead.Forget()
}

// fleet returns the queues, schedules and instances, which all pages share, as far as the user
// of ctx sees them. If the broker cannot be read, it returns those of before, if any, and the
// page says how old they are.
func (r *request) fleet(ctx context.Context) (*fleet, error) {
	seen := r.site.looks.overview.Get(ctx)
	if seen.Value == nil {
		return nil, seen.Err
	}
	f := seen.Value
	if seen.Err != nil {
		r.asOf = seen.At
		r.warn("The broker cannot be read: %v", seen.Err)
	}
	f = f.seenBy(r.site, access.UserOf(ctx))
	r.warnSkipped(f.Queues.Skipped)
	return f, nil
}

// queue returns what is known of a queue; nil if nothing is.
func (f *fleet) queue(name string) *taskrt.QueueStatus {
	for i := range f.Queues.Queues {
		if f.Queues.Queues[i].Queue == name {
			return &f.Queues.Queues[i]
		}
	}
	return nil
}
