package memory

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/taskgen/taskgen/broker"
)

// announced is an instance, and when it is no longer listed.
type announced struct {
	*broker.Instance
	ends instant
}

// Announce stores a copy of an instance, as [broker.Instances] says.
func (b *Broker) Announce(ctx context.Context, i *broker.Instance) error {
	bounded, err := i.Bounded()
	if err != nil {
		return fmt.Errorf("announce instance: %w", err)
	}
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("announce instance %s: %w", i.ID, err)
	}
	defer b.mu.Unlock()
	now := b.now()
	bounded.Seen = fromWall(now.wall)
	b.forgetInstances(now)
	if b.instances == nil {
		b.instances = make(map[string]announced)
	}
	b.instances[i.ID] = announced{bounded, now.after(broker.InstanceKept)}
	return nil
}

// forgetInstances drops those that have not announced themselves for too long.
func (b *Broker) forgetInstances(now clock) {
	maps.DeleteFunc(b.instances, func(_ string, a announced) bool { return now.until(a.ends) <= 0 })
}

// Withdraw removes an instance. It ignores one that is not stored.
func (b *Broker) Withdraw(ctx context.Context, id string) error {
	if err := b.enter(ctx); err != nil {
		return fmt.Errorf("withdraw instance %.64q: %w", id, err)
	}
	defer b.mu.Unlock()
	delete(b.instances, id)
	return nil
}

// Instances returns copies of the instances of this process that are up, as [broker.Instances]
// says.
func (b *Broker) Instances(ctx context.Context) ([]*broker.Instance, error) {
	if err := b.enter(ctx); err != nil {
		return nil, fmt.Errorf("read instances: %w", err)
	}
	defer b.mu.Unlock()
	b.forgetInstances(b.now())
	var list []*broker.Instance
	for _, a := range b.instances {
		i := *a.Instance
		i.Queues = maps.Clone(i.Queues)
		list = append(list, &i)
	}
	slices.SortFunc(list, func(a, b *broker.Instance) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.PID, b.PID), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}
