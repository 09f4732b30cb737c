package runtime

import (
	"bytes"
	"context"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

func TestEachRiskOfAServerIsSaidWithWhatToDo(t *testing.T) {
	for name, test := range map[string]struct {
		d    redis.Durability
		want []string
	}{
		"safe":            {redis.Durability{Persistence: redis.AppendOnly, Eviction: "noeviction"}, nil},
		"snapshots":       {redis.Durability{Persistence: redis.Snapshots, Eviction: "noeviction", Failing: true}, []string{"appendonly yes"}},
		"failing":         {redis.Durability{Persistence: redis.AppendOnly, Eviction: "noeviction", Failing: true}, []string{"disk is full"}},
		"evicts":          {redis.Durability{Persistence: redis.AppendOnly, Eviction: "allkeys-lru"}, []string{"noeviction"}},
		"evicts, no file": {redis.Durability{Eviction: "allkeys-lru"}, []string{"appendonly yes", "noeviction"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := risks(test.d)
			require.Len(t, got, len(test.want))
			require.Equal(t, test.d.Durable(), len(got) == 0)
			for i, want := range test.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}

func TestAServersRisksAreLogged(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "no")
	opened, err := Open(context.Background(), server.URL())
	require.NoError(t, err)
	b := opened.(*redis.Broker)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	durability := warnIfVolatile(context.Background(), b, logger)
	require.Contains(t, durability, "noeviction")
	require.Contains(t, log.String(), `"durability":"`+durability+`"`)

	require.NoError(t, b.Close())
	log.Reset()
	require.Empty(t, warnIfVolatile(context.Background(), b, logger))
	require.Contains(t, log.String(), "cannot tell how safe")
	require.Contains(t, log.String(), "closed")
}
