package conn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Dialer makes go-redis clients for the servers that a URL names, or that another
// client knows.
type Dialer struct {
	open    func(dials context.Context, cfg Config, size int) goredis.UniversalClient
	cluster bool
	// sentinel: sentinels name the master.
	sentinel bool

	// What Diagnose needs: the URL's scheme, and the first server that it names.
	scheme, network, addr, master string
	tls                           bool
}

// FromClient returns a dialer that connects as a client does. It refuses clients that
// are neither a *goredis.Client nor a *goredis.ClusterClient.
func FromClient(client goredis.UniversalClient) (Dialer, error) {
	switch c := client.(type) {
	case *goredis.Client:
		return single(c.Options()), nil
	case *goredis.ClusterClient:
		return cluster(c.Options()), nil
	}
	return Dialer{}, fmt.Errorf("a client of type %T is not supported, only *redis.Client and *redis.ClusterClient", client)
}

// tune sets the options that the broker needs. Retries are off: go-redis would repeat a
// script that the server has run if only the reply was lost.
func tune(dials context.Context, opt *goredis.Options, cfg Config, size int) {
	opt.MaxRetries = -1
	opt.ContextTimeoutEnabled = true
	opt.DialTimeout, opt.DialerRetries = cfg.Timeout, 1
	opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = cfg.Timeout, cfg.Timeout, cfg.Timeout
	opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = size, 0, 0, 0
	opt.MaxConcurrentDials = 0
	opt.PipelinePoolSize = -1
	opt.DisableIdentity = true
	opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if opt.Dialer == nil {
		opt.Dialer = goredis.NewDialer(opt)
	}
	opt.Dialer = quietDialer(dials, opt.Dialer)
}

func single(base *goredis.Options) Dialer {
	return Dialer{open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		tune(dials, &opt, cfg, size)
		return goredis.NewClient(&opt)
	}}
}

func cluster(base *goredis.ClusterOptions) Dialer {
	return Dialer{cluster: true, open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		opt.MaxRetries = -1
		opt.ReadOnly, opt.RouteByLatency, opt.RouteRandomly = false, false, false
		opt.DisableRoutingPolicies = true
		opt.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		open := opt.NewClient
		if open == nil {
			open = goredis.NewClient
		}
		opt.NewClient = func(node *goredis.Options) *goredis.Client {
			tune(dials, node, cfg, size)
			return open(node)
		}
		return goredis.NewClusterClient(&opt)
	}}
}

func sentinel(base *goredis.FailoverOptions) Dialer {
	return Dialer{sentinel: true, open: func(dials context.Context, cfg Config, size int) goredis.UniversalClient {
		opt := *base
		server := &goredis.Options{Dialer: opt.Dialer, TLSConfig: opt.TLSConfig}
		tune(dials, server, cfg, size)
		opt.Dialer = server.Dialer
		opt.MaxRetries = server.MaxRetries
		opt.ContextTimeoutEnabled = server.ContextTimeoutEnabled
		opt.DialTimeout, opt.DialerRetries = server.DialTimeout, server.DialerRetries
		opt.ReadTimeout, opt.WriteTimeout, opt.PoolTimeout = server.ReadTimeout, server.WriteTimeout, server.PoolTimeout
		opt.PoolSize, opt.MinIdleConns, opt.MaxIdleConns, opt.MaxActiveConns = size, 0, 0, 0
		opt.MaxConcurrentDials = server.MaxConcurrentDials
		opt.PipelinePoolSize = server.PipelinePoolSize
		opt.DisableIdentity = server.DisableIdentity
		opt.ReplicaOnly, opt.RouteByLatency, opt.RouteRandomly = false, false, false
		return goredis.NewFailoverClient(&opt)
	}}
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// quietDialer turns a failed dial into a connection that fails at its first use.
// go-redis logs each failed dial to standard error by a process-wide logger, which a
// library must not replace. The dials end when the context dials ends.
func quietDialer(dials context.Context, dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(dials, cancel)()
		conn, err := dial(ctx, network, addr)
		if err == nil {
			return watchRefusal(conn), nil
		}
		if op := (*net.OpError)(nil); !errors.As(err, &op) || op.Op != "dial" {
			err = &net.OpError{Op: "dial", Net: network, Err: err}
		}
		// go-redis unwraps the outer error.
		return failedConn{fmt.Errorf("connect: %w", err)}, nil
	}
}

// failedConn is the connection that stands for a failed dial.
type failedConn struct{ err error }

func (c failedConn) Read([]byte) (int, error)       { return 0, c.err }
func (c failedConn) Write([]byte) (int, error)      { return 0, c.err }
func (failedConn) Close() error                     { return nil }
func (failedConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (failedConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (failedConn) SetDeadline(time.Time) error      { return nil }
func (failedConn) SetReadDeadline(time.Time) error  { return nil }
func (failedConn) SetWriteDeadline(time.Time) error { return nil }
