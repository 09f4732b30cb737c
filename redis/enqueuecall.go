package redis

import (
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// claims are the unique keys of the runs of a call.
type claims struct {
	keys    []string
	args    []any // of each the run's id, when it is due, and ms from then on, or ""
	runs    []int // of each the index of its run
	refused []int // indexes of runs whose key an earlier run of the call has
	first   map[string]int
}

// add claims a run's unique key.
func (c *claims) add(q *wire.QueueKeys, index int, run *broker.TaskRun) {
	rules := run.Rules.OrZero()
	if _, taken := c.first[rules.Unique]; taken {
		c.refused = append(c.refused, index)
		return
	}
	set(&c.first, rules.Unique, index)
	var keep any = ""
	if rules.UniqueFor > 0 {
		keep = max(wire.Millis(rules.UniqueFor), 1)
	}
	c.keys = append(c.keys, q.Unique(rules.Unique))
	c.args = append(c.args, run.ID, wire.FormatDue(run), keep)
	c.runs = append(c.runs, index)
}

// duplicates makes the error of a call of which live runs have unique keys.
func (c *claims) duplicates(live []script.LiveRun) error {
	refused := new(broker.DuplicateError)
	for _, l := range live {
		if l.Key < 0 || l.Key >= len(c.runs) {
			return fmt.Errorf("unexpected unique key %d in the reply of enqueue.lua", l.Key)
		}
		refused.Runs = append(refused.Runs, broker.Duplicate{Index: c.runs[l.Key], ID: l.ID})
	}
	return refused
}

// enqueueCall is what one call queues, as the enqueue script takes it.
type enqueueCall struct {
	owners   []string // keys of ids that must be free
	claims   claims
	ready    [7][]any     // stored runs due at once, by ready list
	delayed  []delayedRun // the others, and those with a fair value
	records  []string     // keys
	values   []any        // due and map of each record
	source   []byte       // the entry that it is stored instead of, as the script takes it
	task     string       // of a call that is a tick: the field of ticks
	tick     string       // of a call that is a tick; of an entry of the outbox, the record if the run is skipped
	status   script.CallStatus
	result   error
	bytes    int
	cost     int
	canRetry bool // repeating it cannot store it twice
}

// reserved returns the keys of the ids and unique keys of the call.
func (c *enqueueCall) reserved() []string { return slices.Concat(c.claims.keys, c.owners) }

// weight is the call's part of a command that calls share: its bytes, or what it costs the
// server if that is more.
func (c *enqueueCall) weight() int { return max(c.bytes, c.cost*(maxWeight/stepCost)) }

// newEnqueueCall encodes the runs of one call.
func newEnqueueCall(q *wire.QueueKeys, runs []*broker.TaskRun) (*enqueueCall, error) {
	c := new(enqueueCall)
	var own map[string]bool
	for i, run := range runs {
		if run.Rules.OrZero().Unique != "" {
			c.claims.add(q, i, run)
			c.canRetry = true
		}
		if run.OwnID {
			if own[run.ID] {
				return nil, fmt.Errorf("run %s: %w", run.ID, broker.ErrDuplicate)
			}
			set(&own, run.ID, true)
			c.canRetry = true
		}
		if err := c.add(q, run); err != nil {
			return nil, fmt.Errorf("encode run %s: %w", run.ID, err)
		}
	}
	return c, nil
}

func (c *enqueueCall) add(q *wire.QueueKeys, run *broker.TaskRun) error {
	stored, err := wire.AppendRun(make([]byte, 0, 192+len(run.Payload)), run)
	if err != nil {
		return err
	}
	c.bytes += len(stored)
	c.cost += costOf(run)
	due := wire.FormatDue(run)
	if due == "" && run.Rules.OrZero().Fair == "" {
		n := wire.ReadyList(run)
		c.ready[n] = append(c.ready[n], stored)
	} else {
		c.delayed = append(c.delayed, delayedRun{due, wire.ReadyList(run), stored})
	}
	if run.OwnID {
		c.owners = append(c.owners, q.Owner(run.ID))
	}
	if run.Keep > 0 {
		c.records = append(c.records, q.Record(run.ID))
		record := wire.StartRecord(nil, broker.StateQueued)
		if due != "" {
			record = record[:1]
		}
		c.values = append(c.values, due, wire.AppendRecord(record, run, nil))
	}
	return nil
}

// isPlain reports whether nothing can refuse the call, so that others can be merged into
// it.
func (c *enqueueCall) isPlain() bool {
	return len(c.owners) == 0 && len(c.claims.keys) == 0 && c.task == "" && c.source == nil
}

// merge adds the runs of another plain call.
func (c *enqueueCall) merge(other *enqueueCall) {
	for n := range c.ready {
		c.ready[n] = append(c.ready[n], other.ready[n]...)
	}
	c.delayed = append(c.delayed, other.delayed...)
	c.records = append(c.records, other.records...)
	c.values = append(c.values, other.values...)
}

func (c *enqueueCall) appendArgs(args []any) []any {
	args = append(args, c.source, c.task, c.tick, len(c.owners), len(c.claims.keys))
	args = append(args, c.claims.args...)
	at, lists := len(args), 0
	args = append(args, nil)
	for n, stored := range c.ready {
		if len(stored) > 0 {
			args = append(append(args, n, len(stored)), stored...)
			lists++
		}
	}
	args[at] = lists
	args = c.appendDelayed(args)
	return append(append(args, len(c.records)), c.values...)
}

// delayedRun is a run that goes where its due time says; "" is at once.
type delayedRun struct {
	due    string
	list   int
	stored []byte
}

// appendDelayed appends the delayed runs, those that are due at the same time for one
// ready list together.
func (c *enqueueCall) appendDelayed(args []any) []any {
	at, dues := len(args), 0
	args = append(args, nil)
	for from, d := range c.delayed {
		if from > 0 && c.delayed[from-1].due == d.due && c.delayed[from-1].list == d.list {
			continue
		}
		to := from + 1
		for to < len(c.delayed) && c.delayed[to].due == d.due && c.delayed[to].list == d.list {
			to++
		}
		args = append(args, d.due, d.list, to-from)
		for _, same := range c.delayed[from:to] {
			args = append(args, same.stored)
		}
		dues++
	}
	args[at] = dues
	return args
}

// errUndecided is the result of a call of which a large call has reserved an id or a
// unique key that is being stored: nothing is stored, and no unique key is taken. No
// exported method returns it.
var errUndecided = errors.New("another call has reserved an id or a unique key, and is not stored yet")

// setResults sets the result of each call. confirmed is what became of the confirmation,
// and the result of a call that is stored.
func setResults(v any, calls []*enqueueCall, confirmed error) error {
	replies, err := script.ParseEnqueue(v, len(calls))
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	for i, call := range calls {
		call.setResult(replies[i], confirmed)
	}
	return nil
}

// setResult sets the result of the call from the script's reply.
func (c *enqueueCall) setResult(reply script.EnqueueReply, confirmed error) {
	c.status = reply.Status
	switch c.status {
	case script.Stored:
		if confirmed != nil {
			c.result = fmt.Errorf("queue tasks: %w", confirmed)
		}
	case script.IDLives:
		c.result = broker.ErrDuplicate
	case script.KeyLives:
		c.result = c.claims.duplicates(reply.Live)
	case script.Undecided:
		c.result = errUndecided
	case script.SourceGone, script.PendingGone:
		// Nothing is stored, as it should be.
	case script.TaskDisabled:
		c.result = fmt.Errorf("queue tick of %s: %w", c.task, broker.ErrDisabled)
	case script.ScheduleGone:
		c.result = fmt.Errorf("queue tick of schedule %s: it was changed or deleted: %w", c.task, broker.ErrNoSchedule)
	case script.TickClaimed:
		c.result = fmt.Errorf("queue tick of %s: %w", c.task, broker.ErrDuplicate)
	case script.NotStored:
		c.result = fmt.Errorf("queue tasks: %w", reply.Err)
	default:
		c.result = fmt.Errorf("queue tasks: unexpected status %d of enqueue.lua", c.status)
	}
}

// Bounds of one step of the server, in units of half a microsecond to one.
const (
	stepCost  = 8192
	pageCost  = stepCost / 4
	pageBytes = 1 << 20
)

// costOf is what a run costs the server in a script.
func costOf(run *broker.TaskRun) int {
	cost := 1
	if run.Keep > 0 {
		cost++
	}
	if run.OwnID {
		cost += 4
	}
	if run.Delay > 0 || !run.Due.IsZero() {
		cost++
	}
	if rules := run.Rules; rules != nil {
		if rules.Unique != "" {
			cost += 7
		}
		if len(rules.Limits) > 0 {
			cost++
		}
		if rules.Fair != "" {
			cost += 40
		}
	}
	return cost
}
