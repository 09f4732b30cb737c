package web

import (
	"net/http"
	"os"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestDeadLettersOfOneQueueCostLittle has as many in one queue as a queue keeps.
func TestDeadLettersOfOneQueueCostLittle(t *testing.T) {
	const dead = 10_000
	server, count := redistest.Start(t), new(commands)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr(), Dialer: count.dial})
	b, err := redis.New(client, redis.Config{Prefix: "dead"})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, b.Close())
		require.NoError(t, client.Close())
	})
	fill(t, b, 1, dead, dead)
	get(t, newSite(t, b), "consumers", http.StatusOK) // connects
	for _, address := range []string{"dead", "dead?error=nothing", "dead?list=1", "dead?list=1&error=nothing", "dead?queue=queue-000", "bulk?do=retry", "bulk?do=delete&error=nothing"} {
		h := newSite(t, b)
		before, began := count.n.Load(), time.Now()
		html := get(t, h, address, http.StatusOK)
		took, sent := time.Since(began), count.n.Load()-before
		if os.Getenv(costVariable) != "" {
			t.Logf("%-50s %4d ms %4d commands %4d KB", address, took.Milliseconds(), sent, len(html)/1000)
		}
		if sent > 60 {
			t.Errorf("%s sends %d commands", address, sent)
		}
		if len(html) > 150_000 {
			t.Errorf("%s has %d bytes", address, len(html))
		}
	}
	text := readable(get(t, newSite(t, b), "dead", http.StatusOK))
	require.Contains(t, text, "smtp: # mailbox unavailable send_receipt 10,000")
	require.Contains(t, text, "Looked at all 10,000 dead letters.")
}
