package redis_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/redis"
)

func TestEachRiskOfAServerHasItsRemedy(t *testing.T) {
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
			got := test.d.Risks()
			require.Len(t, got, len(test.want))
			require.Equal(t, test.d.Durable(), len(got) == 0)
			for i, want := range test.want {
				require.Contains(t, got[i], want)
			}
		})
	}
}
