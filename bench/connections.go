package main

import goredis "github.com/redis/go-redis/v9"

// unlimited is a Limiter of go-redis that allows every command. A broker over a client
// with a Limiter sends all commands through go-redis's pool, as only go-redis can call the
// Limiter.
type unlimited struct{}

func (unlimited) Allow() error       { return nil }
func (unlimited) ReportResult(error) {}

// pooledClient returns a go-redis client with which the broker opens no connections of its
// own.
func pooledClient(addr string) *goredis.Client {
	return goredis.NewClient(&goredis.Options{Addr: addr, Limiter: unlimited{}})
}

// connections returns the scenarios that compare the broker's own connections with
// go-redis's pool. The broker is the same, and make bench measures each scenario too.
func connections(e *environment) []scenario {
	own, pooled := taskgenSystem{}, taskgenSystem{pooled: true}
	return []scenario{
		{name: "queue and run, 64 callers, 64 slots", subjects: of(steady(64, 64, noop), own, pooled)},
		{name: "queue and run, results kept for 1h", subjects: of(steady(64, 64, kept), own, pooled)},
		{name: "drain of " + thousands(e.drain) + ", 64 slots", subjects: of(drain(64), own, pooled)},
		{name: "drain of " + thousands(e.drain) + ", 10 slots", subjects: of(drain(10), own, pooled)},
		{name: "enqueue, 1 caller", subjects: of(enqueue(1, 1), own, pooled)},
		{name: "enqueue, 64 callers", subjects: of(enqueue(64, 1), own, pooled)},
		{name: "enqueue, 8 callers, batches of 100", subjects: of(enqueue(8, 100), own, pooled)},
		{name: "pickup when idle", subjects: of(pickup, own, pooled)},
	}
}
