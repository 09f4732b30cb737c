package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// A key of a queue can be of a wrong type, or hold a text where a number has to be: somebody
// wrote it by hand, or a tool with a wrong prefix. Scripts fail then, and leave each run
// where it can be found. The call that gets such an error renames the key, reports it, and
// tries again.

// repairing is the state of the repairing of one queue.
type repairing struct {
	mu    sync.Mutex
	over  time.Time     // when the last one ended
	wait  time.Duration // until the next one, after one that found nothing
	found bool
}

// repaired calls read, and once more if it failed because of the value of a key that could
// be put aside.
func repaired[T any](ctx context.Context, b *Broker, key string, read func() (T, error)) (T, error) {
	start := time.Now()
	v, err := read()
	if conn.IsDamage(err) && b.repair(ctx, start, key) {
		return read()
	}
	return v, err
}

// longestUnrepaired is how often at least repair searches a queue whose scripts fail for a
// reason that it does not find.
const longestUnrepaired = time.Minute

// repair quarantines keys of a queue that no script can use, those given among them. It
// reports whether there were any, so that the caller can repeat a command that failed.
// That was sent at since.
func (b *Broker) repair(ctx context.Context, since time.Time, keys ...string) bool {
	if len(keys) == 0 {
		return false
	}
	end := strings.Index(keys[0], "}:")
	if end < 0 {
		return false
	}
	base := keys[0][:end+2]
	v, _ := b.repairs.LoadOrStore(base, new(repairing))
	m, ok := v.(*repairing)
	if !ok {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over.After(since) && m.found {
		return true
	}
	if time.Since(m.over) < m.wait {
		return false
	}
	m.found = b.repairKeys(ctx, base, keys)
	m.over, m.wait = time.Now(), min(max(2*m.wait, time.Second), longestUnrepaired)
	if m.found {
		m.wait = 0 // another failure has another reason
	}
	return m.found
}

// repairKeys is repair without its pauses.
func (b *Broker) repairKeys(ctx context.Context, base string, more []string) bool {
	var keys []string
	var kinds []any
	for rest, kind := range wire.KindsOfKeys {
		keys, kinds = append(keys, base+rest), append(kinds, kind)
	}
	for _, key := range more {
		if rest, ok := strings.CutPrefix(key, base); ok {
			if kind := wire.KindOfMore(rest); kind != "" {
				keys, kinds = append(keys, key), append(kinds, kind)
			}
		}
	}
	found := b.quarantine(ctx, base, keys, kinds)
	if b.recount(ctx, base) {
		found = true
	}
	// Numbers that cannot be counted anew.
	if b.quarantine(ctx, base, []string{base + "running"}, []any{"numbers"}) {
		found = true
	}
	return found
}

// fieldPages is in how many steps the fields of a hash are checked, at most.
const fieldPages = 1000

func (b *Broker) quarantine(ctx context.Context, base string, keys []string, kinds []any) (some bool) {
	some, more := b.quarantineStep(ctx, base, keys, kinds)
	for i, cursor := range more {
		for page := 0; cursor != "" && page < fieldPages && ctx.Err() == nil; page++ {
			broken, next := b.quarantineStep(ctx, base, keys[i:i+1], []any{kinds[i], cursor})
			some, cursor = some || broken, next[0]
		}
	}
	return some
}

// quarantineStep is quarantine in one step of the server. It returns where to go on in
// hashes with more fields than one step checks.
func (b *Broker) quarantineStep(ctx context.Context, base string, keys []string, kinds []any) (some bool, more map[int]string) {
	v, err := b.clients.Run(ctx, b.scripts.Repair, b.clients.Work, conn.ReadAny, nil, keys, kinds)
	if err != nil {
		return false, nil
	}
	for _, found := range script.ParseRepair(v, len(keys)) {
		if found.Type == "" {
			set(&more, found.Key, found.NewName)
			continue
		}
		some = true
		want := wire.TypeOfKind(kinds[found.Key])
		d := maintenance.Damage{Queue: wire.Unescape(wire.QueueOf(base)), Key: keys[found.Key], Moved: found.NewName,
			Why: fmt.Sprintf("it is a %s, and has to be a %v", found.Type, want)}
		if found.NewName == "" {
			d.Why = "some of its fields have to be numbers"
		} else if found.Type == want {
			d.Why = "it has to be a number"
		}
		b.damage.add(d)
	}
	return some, more
}

// recount counts anew what is in flight at limits, and puts into the rounds what was missing
// there, which nobody would look at. It reports whether something was wrong.
func (b *Broker) recount(ctx context.Context, base string) (found bool) {
	q := b.keysOf(wire.Unescape(wire.QueueOf(base)))
	report := func(rest, why string) {
		found = true
		b.damage.add(maintenance.Damage{Queue: q.Name, Key: base + rest, Why: why})
	}
	wrong := b.repairPages(fieldPages, func(from string) (any, error) {
		args := &script.AuditCountsArgs{Repair: true, Batches: q.Batch(""), Bitmaps: q.Done(""), From: from}
		return b.runOnce(ctx, b.scripts.AuditCounts, script.AuditCountsKeys(&q.QueueKeys), args)
	})
	if wrong > 0 {
		report("running", "it said otherwise than how many runs are in flight")
	}
	missing := b.repairPages(roundPages, func(from string) (any, error) {
		return b.runOnce(ctx, b.scripts.AuditTurns, script.AuditTurnsKeys(&q.QueueKeys), &script.AuditTurnsArgs{Repair: true, From: from})
	})
	if missing > 0 {
		report("rounds", "backlogs of runs were missing in it")
	}
	return found
}

// roundPages is in how many steps, of 500 backlogs each, the rounds are checked, at most.
const roundPages = 200

// runOnce executes a script of the audit once.
func (b *Broker) runOnce(ctx context.Context, s script.Script, keys []string, args script.Arguments) (any, error) {
	return b.clients.Run(ctx, s, b.clients.Work, conn.ReadAny, nil, keys, args.Append(nil))
}

// repairPages calls a script of the audit page by page, until an error. It returns how much
// the script repaired.
func (b *Broker) repairPages(pages int, run func(from string) (any, error)) (repaired int64) {
	from := ""
	for range pages {
		v, err := run(from)
		if err != nil {
			break
		}
		n, next, err := script.ParseAuditPage(v)
		if err != nil {
			break
		}
		repaired += max(n, 0)
		if from = next; from == "" {
			break
		}
	}
	return repaired
}

// Damaged returns what was found broken since the last call. It also returns how many dead
// letters were trimmed of a queue, every ten seconds at most.
func (b *Broker) Damaged() []maintenance.Damage {
	d := &b.damage
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	for queue, trimmed := range d.trimmed {
		switch {
		case time.Since(trimmed.reportedAt) < trimmedEvery:
		case trimmed.n == 0:
			delete(d.trimmed, queue)
		default:
			list = append(list, maintenance.Damage{Queue: queue, Trimmed: trimmed.n})
			trimmed.n, trimmed.reportedAt = 0, time.Now()
		}
	}
	return list
}
