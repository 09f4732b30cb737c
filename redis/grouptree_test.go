package redis_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// tree is a group of members in several queues, of which one gathers a group of others, and so
// on. All runs have the tree's name before their ids.
type tree struct {
	root    *broker.TaskRun
	members []*broker.TaskRun
	all     []string // the ids of its runs
}

var treeQueues = []string{"a", "b", "c"}

// newTree makes a tree of groups, nested so deep.
func newTree(name string, depth int) *tree {
	tr := new(tree)
	tr.root = tr.gathers(name, depth, 0)
	tr.members, tr.root.Links.Members = tr.root.Links.Members, nil
	return tr
}

// gathers makes a run that gathers a group, with its members.
func (tr *tree) gathers(name string, depth, n int) *broker.TaskRun {
	r := tr.add(name, treeQueues[n%3])
	r.Keep = time.Hour
	links := r.EnsureLinks()
	links.Awaits = broker.Group{ID: name, Queue: treeQueues[(n+1)%3], Size: 3}
	for i := range 3 {
		m := tr.member(fmt.Sprintf("%s-%d", name, i), depth-1, n+1+i)
		of := m.EnsureLinks()
		of.Group, of.Member = name, i
		if m.Queue != links.Awaits.Queue {
			of.GroupQueue = links.Awaits.Queue
		}
		links.Members = append(links.Members, m)
	}
	return r
}

// member makes a member: each second one gathers a group too, if there are to be more.
func (tr *tree) member(id string, depth, n int) *broker.TaskRun {
	if strings.HasSuffix(id, "-1") && depth > 0 {
		return tr.gathers(id, depth, n)
	}
	return tr.add(id, treeQueues[n%3])
}

func (tr *tree) add(id, queue string) *broker.TaskRun {
	tr.all = append(tr.all, id)
	return run(id, queue)
}

// want returns what a run that gathers these members has as its result.
func want(id string, members []*broker.TaskRun) string {
	result := id + "("
	for i, m := range members {
		switch {
		case len(m.Links.Members) > 0:
			result += want(m.ID, m.Links.Members)
		case i == 0:
			result += m.ID + "'"
		default:
			result += m.ID
		}
		result += " "
	}
	return result + ")"
}

// treeConsumer executes the runs of trees.
type treeConsumer struct {
	mu    sync.Mutex
	taken map[string]int
	ended map[string]bool
}

// outcome succeeds with the id of the run, and the results of the group that the run gathers. A
// member at the first place is followed by a run in another queue, which takes its place.
func (c *treeConsumer) outcome(ctx context.Context, b *redis.Broker, r *broker.TaskRun) (broker.Outcome, error) {
	o := broker.Outcome{Run: r, Result: []byte(r.ID)}
	links := r.Links.OrZero()
	if links.Awaits.ID != "" {
		members, err := b.Members(ctx, links.Awaits)
		if err != nil {
			return o, err
		}
		o.Result = append(o.Result, '(')
		for _, m := range members {
			o.Result = append(append(o.Result, m.Result...), ' ')
		}
		o.Result = append(o.Result, ')')
	}
	if links.Group != "" && links.Member == 0 && links.Awaits.ID == "" && r.Task == "task" {
		next := run(r.ID+"'", treeQueues[len(r.ID)%3])
		next.Task = "second"
		of := next.EnsureLinks()
		of.Group, of.Member, of.GroupQueue = links.Group, links.Member, r.GroupQueue()
		o.Next = []*broker.TaskRun{next}
	}
	return o, nil
}

// consume executes runs until these have ended, or ctx has.
func (c *treeConsumer) consume(ctx context.Context, b *redis.Broker, roots []string) error {
	s, err := b.OpenSession(ctx, time.Minute)
	for ; err != nil; s, err = b.OpenSession(ctx, time.Minute) {
		if ctx.Err() != nil {
			return err
		}
	}
	for !c.haveEnded(roots) && ctx.Err() == nil {
		soon, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		runs, _ := s.Take(soon, broker.Want{Queues: treeQueues, IO: 20})
		cancel()
		for _, r := range runs {
			c.note(r.ID, false)
			for ctx.Err() == nil {
				o, err := c.outcome(ctx, b, r)
				if err == nil {
					_, err = s.Finish(ctx, o)
				}
				if err == nil {
					c.note(r.ID, true)
					break
				}
			}
		}
		if len(runs) == 0 {
			_, _ = b.Recover(ctx, treeQueues)
		}
	}
	_ = s.Close(context.WithoutCancel(ctx)) // over connections that break
	return nil
}

func (c *treeConsumer) note(id string, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended[id] = ended; !ended {
		c.taken[id]++
	}
}

func (c *treeConsumer) haveEnded(ids []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id string) bool { return !c.ended[id] })
}

// TestTreesUnderRandomCuts queues and executes trees of groups in three queues over connections
// that break all the time. Each run is taken once, each group is gathered in order, and no key stays.
func TestTreesUnderRandomCuts(t *testing.T) {
	t.Parallel()
	const trees = 20
	for _, some := range []float64{0, 0.1} {
		t.Run(fmt.Sprint(some), func(t *testing.T) {
			b, l := openLossy(t, shared)
			l.mu.Lock()
			l.some = some
			l.mu.Unlock()
			c := &treeConsumer{taken: map[string]int{}, ended: map[string]bool{}}
			var roots, all []string
			results := map[string]string{}
			for i := range trees {
				tr := newTree(fmt.Sprint("t", i), 1+i%4)
				err := b.QueueGroup(t.Context(), tr.root, tr.members...)
				if some > 0 && err != nil {
					continue // stored whole or not at all: what is not stored is not missed below
				}
				require.NoError(t, err)
				results[tr.root.ID] = want(tr.root.ID, tr.members)
				roots, all = append(roots, tr.root.ID), append(all, tr.all...)
			}
			require.Greater(t, len(roots), trees/3)
			ctx := within(t, 100*time.Second)
			errs := make([]error, 4)
			var consumers sync.WaitGroup
			for i := range errs {
				with := b
				if i%2 == 1 {
					with = openWith(t, shared, prefix(t))
				}
				consumers.Go(func() { errs[i] = c.consume(ctx, with, roots) })
			}
			consumers.Wait()
			require.NoError(t, errors.Join(errs...))
			l.restore()
			require.NoError(t, ctx.Err())
			for _, id := range all {
				require.Equal(t, 1, c.taken[id], "takes of run %s", id)
			}
			for root, want := range results {
				require.Equal(t, want, string(record(t, b, "a", root).Result))
			}
			elapse(t, raw(t, shared), 61*time.Second)
			_, err := b.Recover(t.Context(), treeQueues)
			require.NoError(t, err)
			if some == 0 { // else calls that failed may have stored theirs
				require.Empty(t, withoutRecords(waiting(t, raw(t, shared))), "keys that stay")
			}
		})
	}
}

func withoutRecords(keys []string) []string {
	return slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, "}:rec:") })
}

// TestAGroupThatCannotBeStoredBecomesADeadLetter with its members, which are queued with it again
// once what is in its way is gone.
func TestAGroupThatCannotBeStoredBecomesADeadLetter(t *testing.T) {
	for name, key := range map[string]string{"group": "{b}:group:inner", "pending run": "{c}:pending:inner", "another group": "{b}:group:inner"} {
		t.Run(name, func(t *testing.T) {
			b, c := open(t, shared, redis.Config{}), raw(t, shared)
			key = prefix(t) + ":" + key
			if name == "another group" {
				require.NoError(t, c.HSet(t.Context(), key, "left", 1, "then", "+"+strings.Repeat("0", 16)).Err())
			} else {
				require.NoError(t, c.RPush(t.Context(), key, "neither").Err())
			}
			outer, inner, x := run("outer", "a"), run("inner", "c"), run("x", "b")
			outer.EnsureLinks().Awaits = broker.Group{ID: "outer", Queue: "a", Size: 1}
			inner.Links = &broker.Links{
				Group: "outer", GroupQueue: "a", Awaits: broker.Group{ID: "inner", Queue: "b", Size: 1}, Members: []*broker.TaskRun{x},
			}
			x.EnsureLinks().Group = "inner"
			require.NoError(t, b.QueueGroup(t.Context(), outer, inner))
			s := join(t, b, time.Minute)
			require.Equal(t, []string{"outer"}, ids(takeAll(t, s, "a", 1)))
			ended, err := b.Members(t.Context(), outer.Links.Awaits)
			require.NoError(t, err)
			require.Equal(t, broker.StateFailed, ended[0].State)
			letters, err := b.DeadLetters(t.Context(), "a", 10)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Equal(t, []string{"x"}, ids(letters[0].Run.Links.Members))
			require.Contains(t, letters[0].Failure.Message, "dead retry")

			require.NoError(t, c.Del(t.Context(), key).Err())
			n, err := b.RequeueDead(t.Context(), "a", "inner")
			require.NoError(t, err)
			require.Equal(t, 1, n)
			finishAll(t, s, takeAll(t, s, "b", 1))
			finishAll(t, s, takeAll(t, s, "c", 1))
			ended, err = b.Members(t.Context(), outer.Links.Awaits)
			require.NoError(t, err)
			require.Equal(t, broker.StateSucceeded, ended[0].State, "the success of a dead letter counts instead")
		})
	}
}

// TestAGroupThatIsNotStoredEndsItsMemberThoughAScriptFails fails each command of the step that
// skips an inner group, or makes a dead letter of it. The member ends by a later one.
func TestAGroupThatIsNotStoredEndsItsMemberThoughAScriptFails(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	b, c := open(t, server, redis.Config{}), raw(t, server)
	b.Instrument(failing)
	for name, dies := range map[string]bool{"skipped": false, "dead": true} {
		failed := 0
		for n := 1; ; n++ {
			what, q := fmt.Sprintf("%s, command %d", name, n), fmt.Sprintf("%s%d", name, n)
			outer, inner, x := run("outer", q), run("inner", q), run("x", q)
			inner.OwnID = true
			outer.EnsureLinks().Awaits = broker.Group{ID: "outer", Queue: q, Size: 1}
			inner.Links = &broker.Links{Group: "outer", Awaits: broker.Group{ID: "inner", Queue: q, Size: 1}, Members: []*broker.TaskRun{x}}
			x.EnsureLinks().Group = "inner"
			if dies {
				require.NoError(t, c.RPush(t.Context(), prefix(t)+":{"+q+"}:pending:inner", "no string").Err())
			} else {
				live := run("inner", q)
				live.OwnID, live.Delay = true, time.Hour
				require.NoError(t, b.QueueTasks(t.Context(), live))
			}
			require.NoError(t, c.Set(t.Context(), "fail", fmt.Sprintf("endwaiting %d 0", n), 0).Err())
			require.NoError(t, b.QueueGroup(t.Context(), outer, inner))
			over := c.Del(t.Context(), "fail").Val() > 0
			_, err := b.Recover(t.Context(), []string{q})
			require.NoError(t, err, what)
			require.Equal(t, []string{"outer"}, ids(takeAll(t, join(t, b, time.Minute), q, 1)), what)
			letters, err := b.DeadLetters(t.Context(), q, 10)
			require.NoError(t, err, what)
			require.Equal(t, dies, len(letters) == 1, what)
			if over {
				break
			}
			failed++
		}
		require.Greater(t, failed, 1, "commands that failed")
	}
}
