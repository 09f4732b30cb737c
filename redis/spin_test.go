//go:build unix

package redis_test

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// farConn is a connection to a server that is some milliseconds away. It counts how often
// its descriptor is asked for, as a spin does.
type farConn struct {
	*net.TCPConn
	far   *atomic.Bool
	asked *atomic.Int64
}

func (c farConn) Write(b []byte) (int, error) {
	if c.far.Load() {
		sent := append([]byte(nil), b...)
		time.AfterFunc(3*time.Millisecond, func() { _, _ = c.TCPConn.Write(sent) })
		return len(b), nil
	}
	return c.TCPConn.Write(b)
}

func (c farConn) SyscallConn() (syscall.RawConn, error) {
	c.asked.Add(1)
	return c.TCPConn.SyscallConn()
}

// TestRenewalsDoNotSpinForAServerFarAway: it cannot reply in the time for which a renewal
// spins.
func TestRenewalsDoNotSpinForAServerFarAway(t *testing.T) {
	t.Parallel()
	clean(t, shared)
	var far atomic.Bool
	var asked atomic.Int64
	client := goredis.NewClient(&goredis.Options{Addr: shared.Addr(), Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return farConn{conn.(*net.TCPConn), &far, &asked}, nil
	}})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	b, err := redis.New(client, redis.Config{Prefix: prefix(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	require.NoError(t, b.QueueTasks(t.Context(), run("long", "q")))
	s := join(t, b, time.Minute)
	_, err = s.Take(t.Context(), broker.Want{Queues: []string{"q"}, IO: 1})
	require.NoError(t, err)
	renew := func(n int) int64 {
		before := asked.Load()
		for range n {
			require.NoError(t, s.Renew(t.Context()))
		}
		return asked.Load() - before
	}
	require.GreaterOrEqual(t, renew(10), int64(3), "of a server nearby")
	far.Store(true)
	require.Less(t, renew(64), int64(32), "of a server far away")
}
