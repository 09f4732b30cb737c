//go:build unix

package conn

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// These benchmarks compare connections of the broker's own with go-redis's pool, one
// command at a time. `cd bench && go run . -connections` compares whole brokers.

// countedConn counts what a connection asks of the system.
type countedConn struct {
	*net.TCPConn
	calls *atomic.Int64
}

func (c countedConn) Read(b []byte) (int, error) {
	c.calls.Add(1)
	return c.TCPConn.Read(b)
}

func (c countedConn) Write(b []byte) (int, error) {
	c.calls.Add(1)
	return c.TCPConn.Write(b)
}

// SyscallConn is called before each look at the connection.
func (c countedConn) SyscallConn() (syscall.RawConn, error) {
	c.calls.Add(1)
	return c.TCPConn.SyscallConn()
}

// benchClients returns clients of a server of their own, and the count of their system calls.
func benchClients(b *testing.B) (c *Clients, calls *atomic.Int64) {
	b.Helper()
	calls = new(atomic.Int64)
	client := goredis.NewClient(&goredis.Options{
		Addr: redistest.Start(b).Addr(),
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return countedConn{conn.(*net.TCPConn), calls}, nil
		},
	})
	d, err := FromClient(client)
	require.NoError(b, err)
	require.NoError(b, client.Close())
	c = New(d, Config{Timeout: 3 * time.Second, Blocking: 2 * time.Second})
	b.Cleanup(func() { require.NoError(b, c.Close()); c.Wait() })
	return c, calls
}

// clientCPU returns the processor time of this process.
func clientCPU(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// report reports what an operation costs the client until the returned function is called.
func report(b *testing.B, calls *atomic.Int64) func() {
	b.Helper()
	start, before := clientCPU(b), calls.Load()
	b.ResetTimer()
	return func() {
		b.StopTimer()
		b.ReportMetric(float64((clientCPU(b)-start).Nanoseconds())/1e3/float64(b.N), "client-µs/op")
		b.ReportMetric(float64(calls.Load()-before)/float64(b.N), "syscalls/op")
	}
}

// BenchmarkScript executes a short script, by one caller and by several at once.
func BenchmarkScript(b *testing.B) {
	for _, callers := range []int{1, 8} {
		for _, own := range []bool{true, false} {
			b.Run(fmt.Sprintf("callers=%d/%s", callers, named(own)), func(b *testing.B) {
				c, calls := benchClients(b)
				ctx, cancel := context.WithCancel(context.Background()) // as callers have
				defer cancel()
				client, s := c.Work, script.New("return redis.call('LLEN', KEYS[1])")
				if !own {
					client.routes = nil
				}
				execute := func() {
					if _, err := c.Run(ctx, s, client, ReadAny, nil, []string{"list"}, nil); err != nil {
						b.Error(err)
					}
				}
				execute() // dials
				defer report(b, calls)()
				var left atomic.Int64
				left.Store(int64(b.N))
				over := make(chan struct{})
				for range callers {
					go func() {
						defer func() { over <- struct{}{} }()
						for left.Add(-1) >= 0 {
							execute()
						}
					}()
				}
				for range callers {
					<-over
				}
			})
		}
	}
}

// BenchmarkWaitAndTake has a consumer wait for a token and then execute a script. On a
// connection of its own both are one write, and the server goes on from one to the other.
func BenchmarkWaitAndTake(b *testing.B) {
	for _, own := range []bool{true, false} {
		b.Run(named(own), func(b *testing.B) {
			c, calls := benchClients(b)
			ctx, s, keys := context.Background(), script.New("return redis.call('LLEN', KEYS[1])"), []string{"list"}
			take := func() error {
				if err := c.Block.library.BZMPop(ctx, time.Second, "min", 1, "wake").Err(); err != nil {
					return err
				}
				return c.Work.library.EvalSha(ctx, s.Digest, keys).Err()
			}
			if own {
				take = func() error { return popAndRun(ctx, c, s, keys) }
			}
			require.NoError(b, c.Work.library.ScriptLoad(ctx, s.Source).Err())
			taken := make(chan error, 1)
			defer report(b, calls)()
			for range b.N {
				go func() { taken <- take() }()
				if err := c.Queue.library.ZAdd(ctx, "wake", goredis.Z{Member: "1"}).Err(); err != nil {
					b.Fatal(err)
				}
				if err := <-taken; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// popAndRun waits for a token and executes a script, in one write.
func popAndRun(ctx context.Context, c *Clients, s script.Script, keys []string) error {
	_, err := c.Block.Exec(ctx, keys[0], func(to []byte) []byte {
		to = resp.AppendArray(to, 7)
		for _, arg := range []string{"BZMPOP", "1", "1", "wake", "MIN", "COUNT", "1"} {
			to = resp.AppendBulk(to, arg)
		}
		return s.Encode("evalsha", s.Digest, keys, nil)(to)
	}, func(in *bufio.Reader) (any, error) {
		if _, err := resp.ReadReply(in, 0); err != nil {
			return nil, err
		}
		return resp.ReadReply(in, 0)
	}, nil)
	return err
}

func named(own bool) string {
	if own {
		return "own"
	}
	return "pool"
}
