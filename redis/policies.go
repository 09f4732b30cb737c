package redis

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// Policies returns all policies.
func (b *Broker) Policies() broker.Policy { return broker.AllPolicies }

// maxSkipped bounds what is kept for the next Finish or Recover: a process that only
// cancels runs calls neither.
const maxSkipped = 1000

// claims are the unique keys of a group of runs.
type claims struct {
	keys    []string
	args    []any // of each the run's id, when it is due, and ms from then on, or ""
	runs    []int // of each the index of its run
	refused []int // indexes of runs whose key an earlier one of the group has
	first   map[string]int
}

// add claims a run's unique key.
func (c *claims) add(q *wire.QueueKeys, index int, run *broker.TaskRun) {
	rules := run.Rules.OrZero()
	if _, taken := c.first[rules.Unique]; taken {
		c.refused = append(c.refused, index)
		return
	}
	if c.first == nil {
		c.first = map[string]int{}
	}
	c.first[rules.Unique] = index
	var keep any = ""
	if rules.UniqueFor > 0 {
		keep = max(wire.Millis(rules.UniqueFor), 1)
	}
	c.keys = append(c.keys, q.Unique(rules.Unique))
	c.args = append(c.args, run.ID, wire.FormatDue(run), keep)
	c.runs = append(c.runs, index)
}

// refuseTwice makes the error of a group that has a key twice. What it says of runs
// of others is as they were a moment ago.
func (b *Broker) refuseTwice(ctx context.Context, c *claims, runs []*broker.TaskRun) error {
	owners, err := conn.WithGrace(ctx, b.clients, func(ctx context.Context) ([]any, error) {
		return b.clients.Work.MGet(ctx, c.keys...).Result()
	})
	if err != nil {
		return b.fail(ctx, "queue tasks: read unique keys", err)
	}
	refused := new(broker.DuplicateError)
	live := map[string]string{}
	for i, index := range c.runs {
		if id := wire.OwnerOf(owners[i]); id != "" {
			live[runs[index].Rules.OrZero().Unique] = id
		}
	}
	for i, run := range runs {
		key := run.Rules.OrZero().Unique
		if key == "" {
			continue
		}
		if id := live[key]; id != "" {
			refused.Runs = append(refused.Runs, broker.Duplicate{Index: i, ID: id})
		} else if first := c.first[key]; first != i {
			refused.Runs = append(refused.Runs, broker.Duplicate{Index: i, ID: runs[first].ID})
		}
	}
	return refused
}

// duplicates makes the error of a group from what the enqueue script returns
// of it.
func (c *claims) duplicates(verdict []any) error {
	refused := new(broker.DuplicateError)
	for i := 0; i+1 < len(verdict); i += 2 {
		n, _ := verdict[i].(int64)
		id, _ := verdict[i+1].(string)
		if n < 1 || int(n) > len(c.runs) {
			return fmt.Errorf("unexpected run %d in the reply of the enqueue script", n)
		}
		refused.Runs = append(refused.Runs, broker.Duplicate{Index: c.runs[n-1], ID: id})
	}
	return refused
}
