package redis

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// OpenSession opens a session. It returns an error if the server does not answer, or if
// the lease is shorter than a millisecond. It stores nothing: a session that holds no runs is
// unknown to the server.
func (b *Broker) OpenSession(ctx context.Context, lease time.Duration) (broker.Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	if b.clients.IsClosed() {
		return nil, fmt.Errorf("open a session: %w", broker.ErrClosed)
	}
	if err := b.ping(ctx); err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	b.warm(ctx)
	return b.openSession(lease)
}

// warm dials the connection of renewals before tasks run. After an error the first renewal
// dials it.
func (b *Broker) warm(ctx context.Context) {
	if c := b.clients.Renew; c.Direct() && !b.clients.Cluster {
		_, _ = c.Exec(ctx, "", func(out []byte) []byte { return resp.AppendBulk(resp.AppendArray(out, 1), "PING") }, conn.ReadAny, nil)
	}
}

// countsBegins ends the name of a session that notes the begin of each run that came back
// from a dead session. If the name has no such end, recovery counts each such run as begun.
const countsBegins = "+"

func (b *Broker) openSession(lease time.Duration) (*session, error) {
	if lease < time.Millisecond {
		return nil, fmt.Errorf("open a session: a lease of %v is too short", lease)
	}
	b.noteLease(lease)
	first, err := newID()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	second, err := newID()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	// With its lease in the name, recovery can tell when the server's clock was put back.
	length := "." + strconv.FormatInt(wire.Millis(lease), 10)
	s := &session{b: b, id: first + second + length + countsBegins, lease: lease, leases: map[*queue]*queueLease{}}
	s.send = s.sendOutcomes
	return s, nil
}

// noteLease notes the lease of a new session.
func (b *Broker) noteLease(lease time.Duration) {
	for most := b.lease.Load(); int64(lease) > most && !b.lease.CompareAndSwap(most, int64(lease)); {
		most = b.lease.Load()
	}
}
