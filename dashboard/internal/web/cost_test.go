package web

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// commands counts the commands that are sent to a server.
type commands struct{ n atomic.Int64 }

func (c *commands) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &countedConn{conn, c}, err
}

type countedConn struct {
	net.Conn
	commands *commands
}

func (c *countedConn) Write(b []byte) (int, error) {
	n := bytes.Count(b, []byte("\r\n*"))
	if bytes.HasPrefix(b, []byte("*")) {
		n++
	}
	c.commands.n.Add(int64(n))
	return c.Conn.Write(b)
}

// fill queues runs to many queues, has some of them fail, and counts attempts.
func fill(t *testing.T, b *redis.Broker, queues, queued, dead int) (failed *broker.TaskRun) {
	t.Helper()
	ctx := t.Context()
	now := time.Now()
	var names []string
	for q := range queues {
		names = append(names, fmt.Sprintf("queue-%03d", q))
	}
	for q, name := range names {
		for left := queued / queues; left > 0; left -= 1000 {
			var runs []*broker.TaskRun
			for n := range min(left, 1000) {
				runs = append(runs, newRun(fmt.Sprintf("run-%03d-%06d", q, left-n), "send_receipt", name))
			}
			require.NoError(t, b.QueueTasks(ctx, runs...))
		}
	}
	s, err := b.OpenSession(ctx, time.Minute)
	require.NoError(t, err)
	for _, name := range names {
		for left := dead / queues; left > 0; {
			runs, err := s.Take(ctx, broker.Want{Queues: []string{name}, IO: left})
			require.NoError(t, err)
			var outcomes []broker.Outcome
			for _, run := range runs {
				failed = run
				outcomes = append(outcomes, broker.Outcome{Run: run, Verdict: broker.Dead, Failure: &broker.Failure{Kind: "failed", Message: "smtp: 550 mailbox unavailable"}})
			}
			_, err = s.Finish(ctx, outcomes...)
			require.NoError(t, err)
			left -= len(runs)
		}
	}
	require.NoError(t, s.Close(ctx))
	var tallies []broker.Tally
	for _, name := range names {
		for minute := range 50 {
			tally := broker.Tally{Queue: name, Task: "send_receipt", Minute: now.Add(-time.Duration(minute) * time.Minute), Succeeded: 9, Retried: 1}
			tally.Times.Observe(time.Second)
			tally.Waits.Observe(time.Millisecond)
			tallies = append(tallies, tally)
		}
	}
	require.NoError(t, b.AddTallies(ctx, tallies))
	return failed
}

// costVariable has the test of costs queue so many runs and log the time of each page, such as
// 1000000.
const costVariable = "DASHBOARD_COST_RUNS"

// TestPagesCostLittle has 200 queues with runs and dead letters in each.
func TestPagesCostLittle(t *testing.T) {
	queued, dead := 20_000, 2_000
	if n, err := strconv.Atoi(os.Getenv(costVariable)); err == nil {
		queued, dead = n, 10_000
	}
	server, count := redistest.Start(t), new(commands)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr(), Dialer: count.dial})
	b, err := redis.New(client, redis.Config{Prefix: "cost"})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.NoError(t, client.Close())
	})
	failed := fill(t, b, 200, queued+dead, dead)
	addresses := []string{
		"run?id=" + failed.ID + "&queue=" + failed.Queue, "run?id=run-100-000005&queue=queue-100", "queue?name=queue-100", "queue?name=queue-100&range=3d",
		"runs?state=queued", "runs?state=failed", "runs?task=send_receipt", "runs?key=run-100-000", "runs?error=nothing", "runs?queue=queue-100&state=queued&error=nothing",
	}
	addresses = append(addresses,
		"dead?list=1", "dead?list=1&task=send_receipt&kind=failed&alike=smtp:+%23+mailbox+unavailable", "dead?error=nothing", "dead?queue=queue-100",
		"bulk?do=cancel&task=send_receipt", "bulk?do=cancel&error=nothing", "bulk?do=retry", "bulk?do=retry&error=nothing",
		"group?run="+failed.ID+"&queue="+failed.Queue, "group?run=run-100-000005&queue=queue-100", "group?id=none&queue=queue-100",
	)
	for _, p := range pages {
		if p.name != "run" && p.name != "queue" && p.name != "group" {
			addresses = append(addresses, p.name+"?name=send_receipt")
		}
	}
	h := newSite(t, b)
	get(t, h, "consumers", http.StatusOK) // connects
	for _, address := range addresses {
		h := newSite(t, b) // shares nothing with the page before
		before, began := count.n.Load(), time.Now()
		html := get(t, h, address, statusOfCost(address))
		took, sent := time.Since(began), count.n.Load()-before
		if os.Getenv(costVariable) != "" {
			t.Logf("%-50s %4d ms %4d commands %4d KB", address, took.Milliseconds(), sent, len(html)/1000)
			continue // a test without the variable says which costs too much
		}
		if sent > 60 {
			t.Errorf("%s sends %d commands", address, sent)
		}
		if len(html) > 150_000 {
			t.Errorf("%s has %d bytes", address, len(html))
		}
	}
}

func statusOfCost(address string) int {
	if address == "task?name=send_receipt" {
		return http.StatusNotFound
	}
	return http.StatusOK
}
