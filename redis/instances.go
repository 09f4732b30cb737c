package redis

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

const (
	// instancePage is how many instances one command looks at.
	instancePage = 50
	// maxInstances is how many instances are read at most.
	maxInstances = 10_000
)

// Announce stores an instance, as [broker.Instances] says. It sends one command, whatever the
// number of instances.
func (b *Broker) Announce(ctx context.Context, i *broker.Instance) error {
	bounded, err := i.Bounded()
	if err != nil {
		return fmt.Errorf("announce instance %.64q: %w", i.ID, err)
	}
	args := &script.AnnounceArgs{ID: i.ID, Instance: wire.AppendInstance(nil, bounded), Kept: broker.InstanceKept.Milliseconds()}
	_, err = b.repeat(ctx, b.scripts.Announce, b.clients.Work, []string{b.instancesKey()}, args.Append(nil)...)
	if err != nil {
		return b.fail(ctx, "announce instance "+i.ID, err)
	}
	return nil
}

// Withdraw removes an instance.
func (b *Broker) Withdraw(ctx context.Context, id string) error {
	if _, err := b.clients.Work.HDel(ctx, b.instancesKey(), id); err != nil {
		return b.fail(ctx, fmt.Sprintf("withdraw instance %.64q", id), b.blame(ctx, err, b.instancesKey()))
	}
	return nil
}

// Instances returns the instances that announced themselves within [broker.InstanceKept] by the
// server's clock, at most 10,000. It sends one command for about 50 of them.
func (b *Broker) Instances(ctx context.Context) ([]*broker.Instance, error) {
	found := map[string]*broker.Instance{} // a page may have what another had
	for cursor := "0"; cursor != "" && len(found) < maxInstances; {
		args := &script.InstancesArgs{
			Cursor: cursor, Page: instancePage,
			Kept: broker.InstanceKept.Milliseconds(), Longest: wire.LongestInstance + wire.TimeDigits,
		}
		v, err := b.repeat(ctx, b.scripts.Instances, b.clients.Work, []string{b.instancesKey()}, args.Append(nil)...)
		if err != nil {
			return nil, b.fail(ctx, "read instances", err)
		}
		page, err := script.ParseInstances(v)
		if err != nil {
			return nil, fmt.Errorf("read instances: %w", err)
		}
		for pair := range slices.Chunk(page.Stored, 2) {
			if i, err := wire.ParseInstance(pair[0], pair[1]); err == nil {
				found[i.ID] = i
			}
		}
		cursor = page.Cursor
	}
	all := make([]*broker.Instance, 0, len(found))
	for _, i := range found {
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *broker.Instance) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// instancesKey is the key of the hash of all instances.
func (b *Broker) instancesKey() string { return wire.InstancesKey(b.cfg.Prefix) }
