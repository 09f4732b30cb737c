package redis_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// holding is a time for which a session surely held a run of a key.
type holding struct {
	key      string
	from, to time.Time
}

// requireAtMost checks that at no time more than so many runs of a key are held.
func requireAtMost(t *testing.T, most int, all []holding) {
	t.Helper()
	type step struct {
		at    time.Time
		by    int
		about string
	}
	var steps []step
	for _, h := range all {
		if h.from.Before(h.to) {
			steps = append(steps, step{h.from, 1, h.key}, step{h.to, -1, h.key})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Or(a.at.Compare(b.at), a.by-b.by) })
	require.Greater(t, len(steps), 100, "little was held for long enough to tell")
	held := map[string]int{}
	for _, s := range steps {
		held[s.about] += s.by
		require.LessOrEqual(t, held[s.about], most, "runs of %s held at once", s.about)
	}
}

// TestLimitsHoldWhileSessionsLapse has sessions take, finish, and fall silent while they
// hold runs, which others recover.
func TestLimitsHoldWhileSessionsLapse(t *testing.T) {
	t.Parallel()
	b := open(t, shared, redis.Config{})
	const keys, each, most, lease = 3, 80, 2, 100 * time.Millisecond
	var list []*broker.TaskRun
	for i := range keys * each {
		r := run(fmt.Sprintf("run-%d", i), "q")
		r.EnsureRules().Limits = []broker.Limit{{Key: fmt.Sprint("key-", i%keys), Max: most}}
		if i%2 == 0 {
			r.EnsureRules().Limits = append(r.EnsureRules().Limits, broker.Limit{Key: "all", Max: 4})
			r.EnsureRules().Fair = fmt.Sprint("value-", i%4)
		}
		list = append(list, r)
	}
	require.NoError(t, b.QueueTasks(t.Context(), list...))
	var (
		mu    sync.Mutex
		all   []holding
		ended = map[string]int{}
		work  sync.WaitGroup
	)
	left := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(ended) < len(list)
	}
	stop := within(t, time.Minute)
	for range 5 {
		work.Go(func() {
			for left() && stop.Err() == nil {
				s, err := b.OpenSession(t.Context(), lease)
				if err != nil {
					t.Error(err)
					return
				}
				asked := time.Now()
				got, err := s.Take(within(t, lease), broker.Want{Queues: []string{"q"}, IO: 3})
				from, surely := time.Now(), asked.Add(lease) // its lease ends later than that, unless it finishes before
				if err == nil && rand.N(4) > 0 {
					to := time.Now()
					if to.After(surely) {
						to = surely // on a busy machine another may have the runs by now
					}
					done, err := s.Finish(t.Context(), succeeded(got)...)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for _, r := range got {
						ended[r.ID]++
						all = append(all, holding{r.Rules.OrZero().Limits[0].Key, from, to})
					}
					for _, r := range done.Fenced {
						ended[r.ID]--
						if ended[r.ID] == 0 {
							delete(ended, r.ID)
						}
					}
					mu.Unlock()
				} else if err == nil {
					mu.Lock()
					for _, r := range got { // this one falls silent
						all = append(all, holding{r.Rules.OrZero().Limits[0].Key, from, surely})
					}
					mu.Unlock()
				}
				if _, err := b.Recover(t.Context(), []string{"q"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	require.Len(t, ended, len(list), "ends of runs")
	for id, n := range ended {
		require.Equal(t, 1, n, "ends of %s", id)
	}
	requireAtMost(t, most, all)
	require.Eventually(t, func() bool {
		_, err := b.Recover(t.Context(), []string{"q"})
		require.NoError(t, err)
		return raw(t, shared).Exists(t.Context(), prefix(t)+":{q}:running").Val() == 0 && length(t, b, "q") == 0
	}, 5*time.Second, 20*time.Millisecond, "no place is held any more")
}
