package redis

import (
	"context"

	"github.com/taskgen/taskgen/broker"
)

// Risks returns how the server may lose runs that it has accepted; none if it is
// [Durability.Durable]. If thorough is true, it asks as [Broker.Durability] does.
// Otherwise it sends INFO alone, which any user of a broker may send. Then what only
// CONFIG GET returns is unknown, the server's ACL LOG does not grow, and one master of a
// cluster that answers is enough.
func (b *Broker) Risks(ctx context.Context, thorough bool) (broker.Risks, error) {
	d, err := b.durability(ctx, thorough)
	if err != nil && (thorough || d.Version == "") {
		return broker.Risks{}, b.fail(ctx, "read durability", err)
	}
	return broker.Risks{Server: d.Server, Summary: d.String(), Found: d.Risks()}, nil
}

// Risks returns how the server may lose runs that it has accepted, each with its remedy;
// none if it is [Durability.Durable].
func (d Durability) Risks() (risks []string) {
	switch {
	case d.Persistence != AppendOnly:
		risks = append(risks, "the server does not write what it accepts to its disk: a restart of it loses queued runs; set appendonly yes")
	case d.Failing:
		risks = append(risks, "the server cannot write what it accepts to its disk: a restart of it loses queued runs; see its log, and whether its disk is full")
	}
	if d.Eviction != noEviction {
		risks = append(risks, "the server may drop queued runs when its memory is full; set maxmemory-policy noeviction")
	}
	return risks
}
