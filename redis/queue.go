package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// group is what one call queues, as the enqueue script takes it.
type group struct {
	owners   []string // keys of ids that must be free
	claims   claims
	lanes    [7][]any  // elements due at once, by lane
	delayed  []delayed // the others, and those with a fair value
	records  []string  // keys
	values   []any     // due and map of each record
	source   []byte    // what it is stored instead of, as the script takes it
	task     string    // of the tick this is, if it is one
	tick     string
	verdict  int64 // as the script returns it
	result   error
	bytes    int
	cost     int
	canRetry bool // repeating it cannot store it twice
}

// QueueTasks stores runs, all of them or none. Small calls for the same queue share
// a command. A large one, of more than some hundred runs, is stored in pages that
// nobody sees, each a short step of the server, and becomes part of the queue in one
// step: its runs come behind those queued before that step, and in the order of the
// call, but what others queue until it returns may stand between them. Where its
// producer dies before that step nothing of it is stored, and the ids and unique keys
// that it reserved are free after ten seconds at most. Small calls of runs
// without OwnID and Unique are not sent again when the reply to them is lost:
// the error then wraps [broker.ErrOutcomeUnknown]. When the server has reached its
// maxmemory, or has fewer replicas than its min-replicas-to-write, the error
// wraps [broker.ErrQueueFull]; when the runs are stored, but not confirmed as
// Config.Acknowledge asks, [broker.ErrNotReplicated].
func (b *Broker) QueueTasks(ctx context.Context, runs ...*broker.TaskRun) error {
	if len(runs) == 0 {
		return nil
	}
	q, err := b.check(runs)
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	err = b.queueTasks(ctx, q, runs)
	if first := err; conn.IsLoading(first) {
		err = b.clients.WhileLoading(ctx, func() error {
			if err := first; err != nil {
				first = nil
				return err
			}
			return b.queueTasks(ctx, q, runs)
		})
	}
	return err
}

func (b *Broker) queueTasks(ctx context.Context, q *queue, runs []*broker.TaskRun) error {
	if err := b.announce(ctx, q); err != nil {
		return err
	}
	lane := b.plainLane(runs)
	if large := isLarge(runs); lane > 0 && (!large || fitsOnePush(runs)) {
		return b.pushRuns(ctx, q, lane, runs)
	} else if large {
		return b.queueStaged(ctx, q, runs, "", "")
	}
	g, err := newGroup(&q.QueueKeys, runs)
	if err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if len(g.claims.refused) > 0 {
		return b.refuseTwice(ctx, &g.claims, runs)
	}
	return b.queueGroup(ctx, q, g, "queue tasks")
}

// queueGroup queues what one call does by a script, with what is queued at the same
// time. What a large call has reserved that is not decided yet it waits for. An error
// opens with what was done, unless it is the result of the group.
func (b *Broker) queueGroup(ctx context.Context, q *queue, g *group, what string) error {
	for {
		if err := q.enqueue.do(ctx, b.clients, g, g.weight()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if g.verdict != isUndecided {
			return g.result
		}
		if err := b.awaitStages(ctx, q, g.reserved()); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		g.result, g.verdict = nil, 0
	}
}

// storeDecided is store, and waits for what large calls have reserved that are not
// decided yet.
func (b *Broker) storeDecided(ctx context.Context, q *queue, groups []*group) error {
	for {
		if err := b.store(ctx, q, groups); err != nil {
			return err
		}
		var undecided []*group
		var keys []string
		for _, g := range groups {
			if g.verdict == isUndecided {
				undecided, keys = append(undecided, g), append(keys, g.reserved()...)
			}
		}
		if len(undecided) == 0 {
			return nil
		}
		if err := b.awaitStages(ctx, q, keys); err != nil {
			return err
		}
		for _, g := range undecided {
			g.result, g.verdict = nil, 0
		}
		groups = undecided
	}
}

// reserved returns the keys of the ids and unique keys of a group.
func (g *group) reserved() []string { return slices.Concat(g.claims.keys, g.owners) }

// weight is what a group counts in a command that others share: its bytes, or as
// much of a page as it costs the server.
func (g *group) weight() int { return max(g.bytes, g.cost*(maxWeight/stepCost)) }

// pushRuns queues runs of one ready list that nothing can refuse.
func (b *Broker) pushRuns(ctx context.Context, q *queue, lane int, runs []*broker.TaskRun) error {
	scratch, _ := b.scratch.Get().(*scratch)
	if scratch == nil {
		scratch = newScratch()
	}
	defer b.scratch.Put(scratch)
	if err := scratch.encode(q, lane, runs); err != nil {
		return fmt.Errorf("queue tasks: %w", err)
	}
	if scratch.load.weight() > enough {
		return b.push(ctx, q, &scratch.load)
	}
	return q.push.push(ctx, &scratch.load)
}

// check refuses runs that cannot be stored together, and returns their queue.
func (b *Broker) check(runs []*broker.TaskRun) (*queue, error) {
	if err := broker.CheckBatch(runs); err != nil {
		return nil, err
	}
	q, err := b.queue(runs[0].Queue)
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		if err := run.Validate(); err != nil {
			return nil, err
		}
		if run.Queue != q.Name {
			return nil, fmt.Errorf("runs of the queues %q and %q in one call", q.Name, run.Queue)
		}
	}
	return q, nil
}

// newGroup encodes the runs of one call.
func newGroup(q *wire.QueueKeys, runs []*broker.TaskRun) (*group, error) {
	g := new(group)
	var own map[string]bool
	for i, run := range runs {
		if run.Rules.OrZero().Unique != "" {
			g.claims.add(q, i, run)
			g.canRetry = true
		}
		if run.OwnID {
			if own[run.ID] {
				return nil, fmt.Errorf("run %s: %w", run.ID, broker.ErrDuplicate)
			}
			if own == nil {
				own = map[string]bool{}
			}
			own[run.ID] = true
			g.canRetry = true
		}
		if err := g.add(q, run); err != nil {
			return nil, fmt.Errorf("encode run %s: %w", run.ID, err)
		}
	}
	return g, nil
}

func (g *group) add(q *wire.QueueKeys, run *broker.TaskRun) error {
	element, err := wire.AppendRun(make([]byte, 0, 192+len(run.Payload)), run)
	if err != nil {
		return err
	}
	g.bytes += len(element)
	g.cost += costOf(run)
	due := wire.FormatDue(run)
	if due == "" && run.Rules.OrZero().Fair == "" {
		n := wire.ReadyList(run)
		g.lanes[n] = append(g.lanes[n], element)
	} else {
		g.delayed = append(g.delayed, delayed{due, wire.ReadyList(run), element})
	}
	if run.OwnID {
		g.owners = append(g.owners, q.Owner(run.ID))
	}
	if run.Keep > 0 {
		g.records = append(g.records, q.Record(run.ID))
		record := wire.StartRecord(nil, broker.StateQueued)
		if due != "" {
			record = record[:1]
		}
		g.values = append(g.values, due, wire.AppendRecord(record, run, nil, nil))
	}
	return nil
}

// announce adds the queue's name to the set of all of them, before the first
// run of this process and now and then again, should the set be lost. Where the set
// cannot be added to, though the queue can, the queue goes on without.
func (b *Broker) announce(ctx context.Context, q *queue) error {
	now := time.Now().Unix()
	if last := q.named.Load(); last != 0 && now-last < announceEvery {
		return nil
	}
	if b.nameless.Load() {
		b.announceLater(q, now)
		return nil
	}
	again := conn.MayRepeat
	if b.clients.Cluster {
		again = func(error) bool { return false } // the set may be on a node that is down
	}
	err := b.clients.Retry(ctx, again, func() error { return b.addNames(ctx, q.Name) })
	switch {
	case err == nil:
		q.named.Store(now)
	case conn.ContextErr(ctx) == nil && b.outlives(err):
		b.nameless.Store(true)
		b.cfg.Logger.WarnContext(ctx, "cannot add to the names of queues, going on without: patterns and commands may miss new queues",
			"queue", q.Name, "error", b.blame(ctx, err, b.queuesKey()))
		b.announceLater(q, now)
	default:
		return b.notQueued(ctx, fmt.Errorf("add name of queue %s: %w", q.Name, err), false)
	}
	return nil
}

// announceEvery is how often, in seconds, a queue's name is added again.
const announceEvery = 60

// outlives reports whether queues can be used although their names cannot be added
// to the set: that is on a node of its own, or of a wrong type.
func (b *Broker) outlives(err error) bool {
	return conn.IsWrongType(err) || b.clients.Cluster && conn.IsUnreachable(err)
}

// plain reports whether nothing can refuse the group, so that it can be stored
// as one with others.
func (g *group) plain() bool {
	return len(g.owners) == 0 && len(g.claims.keys) == 0 && g.task == "" && g.source == nil
}

// merge adds the runs of another plain group.
func (g *group) merge(other *group) {
	for n := range g.lanes {
		g.lanes[n] = append(g.lanes[n], other.lanes[n]...)
	}
	g.delayed = append(g.delayed, other.delayed...)
	g.records = append(g.records, other.records...)
	g.values = append(g.values, other.values...)
}

// sendGroups stores groups of one queue in one command and leaves each one's
// result in it.
func (b *Broker) sendGroups(ctx context.Context, q *queue, groups []*group) {
	sent := groups
	merged := new(group)
	if len(groups) > 1 {
		sent = make([]*group, 1, 4)
		sent[0] = merged
		for _, g := range groups {
			if g.plain() {
				merged.merge(g)
			} else {
				sent = append(sent, g)
			}
		}
	}
	err := b.store(ctx, q, sent)
	for _, g := range groups {
		switch {
		case err != nil:
			g.result = err
		case len(groups) > 1 && g.plain():
			g.result = merged.result
		}
	}
}

// store sends groups until it is known whether they are stored, or cannot be
// sent again. Each group's own refusal is its result. What is stored instead of something
// the script refuses before it writes anything, because of what is in a key: that is put
// aside if it is the queue's.
func (b *Broker) store(ctx context.Context, q *queue, groups []*group) error {
	start := time.Now()
	err := b.storeOnce(ctx, q, groups)
	if len(groups[0].source) > 0 && conn.IsDamage(err) && b.mend(ctx, start, q.Keys()...) {
		return b.storeOnce(ctx, q, groups)
	}
	return err
}

func (b *Broker) storeOnce(ctx context.Context, q *queue, groups []*group) error {
	token := b.id + "." + strconv.FormatUint(b.calls.Add(1), 36)
	keys := enqueueKeys(q)
	args := (&enqueueArgs{Token: token, Groups: len(groups)}).append(make([]any, 0, 64))
	canRetry := true
	for _, g := range groups {
		keys = slices.Concat(keys, g.owners, g.claims.keys, g.records)
		args = g.appendArgs(args)
		canRetry = canRetry && g.canRetry
	}
	again := conn.IsTransient
	limited := ctx
	if canRetry {
		again = conn.MayRepeat
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, repeatFor)
		defer cancel()
	}
	var v any
	unheard, then, start := false, b.clients.NewConfirmation(), time.Now()
	err := b.clients.Retry(limited, again, func() (err error) {
		v, err = b.runConfirmed(limited, b.scripts.enqueue, b.clients.Queue, conn.ReadAny, then, keys, args)
		unheard = unheard || conn.IsUnknown(err)
		if unheard && then != nil {
			then.Mark = q.Base + "confirmed"
		}
		return err
	})
	if err != nil {
		return b.notQueued(ctx, b.blame(ctx, err, keys...), unheard)
	}
	if err := setResults(v, groups, then.Result()); err != nil {
		return err
	}
	return b.storeAgain(ctx, q, groups, start)
}

// storeAgain stores groups anew that could not be stored because of what was found in a
// key, of which nothing is stored, if that could be mended. A tick is left to the next
// try, and what comes from somewhere stays there.
func (b *Broker) storeAgain(ctx context.Context, q *queue, groups []*group, since time.Time) error {
	var failed []*group
	keys, mend := q.Keys(), false
	for _, g := range groups {
		if !conn.IsDamage(g.result) {
			continue
		}
		mend = true
		owners := g.owners
		if len(g.source) > 0 {
			if g.source[0] != 'b' {
				continue
			}
			owners = owners[1:] // without the group there is nothing to store
		}
		keys = slices.Concat(keys, owners, g.claims.keys, g.records)
		if g.task == "" {
			failed = append(failed, g)
		}
	}
	if !mend || !b.mend(ctx, since, keys...) || len(failed) == 0 {
		return nil
	}
	for _, g := range failed {
		g.result = nil
	}
	return b.store(ctx, q, failed)
}

// repeatFor is how long after it a lost reply to runs with OwnID may be asked
// for again. It is shorter than the time for which the server remembers, by the
// call's token, that a run with an id has ended: a repeated call must not run
// it again.
const repeatFor = 8 * time.Second

func (g *group) appendArgs(args []any) []any {
	args = append(args, g.source, g.task, g.tick, len(g.owners), len(g.claims.keys))
	args = append(args, g.claims.args...)
	at, lists := len(args), 0
	args = append(args, nil)
	for n, elements := range g.lanes {
		if len(elements) > 0 {
			args = append(append(args, n, len(elements)), elements...)
			lists++
		}
	}
	args[at] = lists
	args = g.appendDelayed(args)
	return append(append(args, len(g.records)), g.values...)
}

// delayed is a run of a group that goes to where its due says, "" for at once.
type delayed struct {
	due     string
	lane    int
	element []byte
}

// appendDelayed appends those that are due at the same time, in one lane, together.
func (g *group) appendDelayed(args []any) []any {
	at, dues := len(args), 0
	args = append(args, nil)
	for from, d := range g.delayed {
		if from > 0 && g.delayed[from-1].due == d.due && g.delayed[from-1].lane == d.lane {
			continue
		}
		to := from + 1
		for to < len(g.delayed) && g.delayed[to].due == d.due && g.delayed[to].lane == d.lane {
			to++
		}
		args = append(args, d.due, d.lane, to-from)
		for _, same := range g.delayed[from:to] {
			args = append(args, same.element)
		}
		dues++
	}
	args[at] = dues
	return args
}

// What the enqueue script returns of a group.
const (
	isStored     = 0
	idLives      = 1
	tickClaimed  = 2
	taskDisabled = 3
	sourceGone   = 4
	entryGone    = 5
	isUndecided  = 6
	keyLives     = 7 // that is, an array
	notStored    = 8 // that is, a text
)

// errUndecided is the result of a group of which a call that is being stored has
// reserved an id or a unique key: nothing of the group is stored, and no task was
// refused. It never leaves the package.
var errUndecided = errors.New("another call has reserved an id or a unique key, and is not stored yet")

// setResults sets each group's result, that of a stored one to what became of
// its confirmation.
func setResults(reply any, groups []*group, confirmed error) error {
	verdicts, ok := reply.([]any)
	if !ok || len(verdicts) != len(groups) {
		return fmt.Errorf("queue tasks: unexpected reply %T of the enqueue script", reply)
	}
	for i, g := range groups {
		if others, ok := verdicts[i].([]any); ok {
			g.verdict, g.result = keyLives, g.claims.duplicates(others)
			continue
		}
		if refused, ok := verdicts[i].(string); ok {
			g.verdict, g.result = notStored, fmt.Errorf("queue tasks: %w", resp.Error(refused))
			continue
		}
		g.verdict, _ = verdicts[i].(int64)
		switch g.verdict {
		case isStored:
			if confirmed != nil {
				g.result = fmt.Errorf("queue tasks: %w", confirmed)
			}
		case idLives:
			g.result = broker.ErrDuplicate
		case isUndecided:
			g.result = errUndecided
		case sourceGone:
			// Nothing is stored, as it should be.
		case taskDisabled:
			g.result = fmt.Errorf("queue tick of %s: %w", g.task, broker.ErrDisabled)
		case entryGone:
			g.result = fmt.Errorf("queue tick of schedule %s: it was changed or deleted: %w", g.task, broker.ErrNoSchedule)
		case tickClaimed:
			g.result = fmt.Errorf("queue tick of %s: %w", g.task, broker.ErrDuplicate)
		default:
			g.result = fmt.Errorf("queue tasks: unexpected verdict %v of the enqueue script", verdicts[i])
		}
	}
	return nil
}
