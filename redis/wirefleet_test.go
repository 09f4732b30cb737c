package redis_test

import (
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

type (
	instanceVector struct {
		Name     string         `json:"name"`
		Seen     int64          `json:"seen_ms"`
		Role     broker.Role    `json:"role"`
		Host     string         `json:"host"`
		PID      int            `json:"pid"`
		Version  string         `json:"version"`
		Started  int64          `json:"started,string"`
		Stopping bool           `json:"stopping"`
		Queues   map[string]int `json:"queues"`
		More     int            `json:"more"`
		Address  string         `json:"address"`
		Scraped  int64          `json:"scraped,string"` // 0: it is not
		Session  string         `json:"session"`
		Slots    [2][2]int      `json:"slots"` // of io and cpu: how many, and how many are busy
		Children int            `json:"children"`
		Hex      string         `json:"hex"`
	}
	seriesVector struct {
		Name    string       `json:"name"`
		Minutes []wireMinute `json:"minutes"` // in the order in which they are counted
		Hex     string       `json:"hex"`
	}
	wireMinute struct {
		Minute int      `json:"minute"`
		Counts [4]int64 `json:"counts"`
		Waits  [3]int64 `json:"waits"` // the first buckets
		Times  [3]int64 `json:"times"`
	}
)

func TestWireInstances(t *testing.T) {
	wireVectors(t, "instances.json", func(v *instanceVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *instanceVector) {
			want := &broker.Instance{
				ID: "id", Role: v.Role, Host: v.Host, PID: v.PID, Version: v.Version, Started: instant(v.Started), Stopping: v.Stopping,
				Queues: v.Queues, More: v.More, Address: v.Address, Scraped: instant(v.Scraped), Session: v.Session, Children: v.Children,
			}
			for kind, slots := range v.Slots {
				want.Slots[kind] = broker.Slots{Total: slots[0], Busy: slots[1]}
			}
			require.NoError(t, b.Announce(t.Context(), want))
			key := prefix(t) + ":instances"
			stored := c.HGet(t.Context(), key, "id").Val()
			require.Regexp(t, `^\d{13}`, stored)
			requireBytes(t, &v.Hex, fmt.Sprintf("%013d", v.Seen)+stored[13:])

			require.NoError(t, c.HSet(t.Context(), key, "id", stored[:13]+string(unhex(t, v.Hex)[13:])).Err())
			found, err := b.Instances(t.Context())
			require.NoError(t, err)
			require.Len(t, found, 1)
			want.Seen = found[0].Seen
			require.Equal(t, want, found[0])
		})
}

func TestWireTallies(t *testing.T) {
	hour := time.Now().UTC().Truncate(time.Hour)
	wireVectors(t, "tallies.json", func(v *seriesVector) string { return v.Name },
		func(t *testing.T, b *redis.Broker, c *goredis.Client, v *seriesVector) {
			sums := map[time.Time]*broker.Tally{}
			for _, m := range v.Minutes {
				one := broker.Tally{Queue: "q", Task: "t", Minute: hour.Add(time.Duration(m.Minute) * time.Minute)}
				one.Succeeded, one.Retried, one.Dead, one.Dropped = m.Counts[0], m.Counts[1], m.Counts[2], m.Counts[3]
				copy(one.Waits[:], m.Waits[:])
				copy(one.Times[:], m.Times[:])
				require.NoError(t, b.AddTallies(t.Context(), []broker.Tally{one}))
				if sums[one.Minute] == nil {
					sums[one.Minute] = &broker.Tally{Queue: "q", Task: "t", Minute: one.Minute}
				}
				sums[one.Minute].Add(&one)
			}
			key := tallyKey(t, "q", hour)
			requireBytes(t, &v.Hex, c.HGet(t.Context(), key, "t").Val())

			require.NoError(t, c.HSet(t.Context(), key, "t", unhex(t, v.Hex)).Err())
			found, err := b.Tallies(t.Context(), []string{"q"}, hour, hour.Add(time.Hour))
			require.NoError(t, err)
			require.Len(t, found, len(sums))
			for _, one := range found {
				require.Equal(t, *sums[one.Minute], one)
			}
		})
}
