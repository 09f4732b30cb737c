package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/script"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// moving is one pass through an outbox.
type moving struct {
	b    *Broker
	from *queue

	mu          sync.Mutex
	total       int
	stayed      int // entries that were skipped
	pages       int // on which some stayed
	unreachable map[*queue]bool
	errors      int // errors in failed
	failed      error
	added       bool // entries were added to the outbox meanwhile
}

// moveOutbox moves the entries of a queue's outbox to their queues. Entries that cannot be
// moved now stay; if there are many of these, it reads only the newest entries. It returns
// how many runs it queued.
func (b *Broker) moveOutbox(ctx context.Context, q *queue) (int, error) {
	m := &moving{b: b, from: q, unreachable: map[*queue]bool{}}
	if q.outboxScan.isMuch() {
		_, err := m.pass(ctx, "tail", newestPages)
		return m.end(ctx, err)
	}
	return m.end(ctx, m.scan(ctx, 0))
}

// moveWholeOutbox is moveOutbox, and from time to time also reads on through the entries that
// stay.
func (b *Broker) moveWholeOutbox(ctx context.Context, q *queue) (int, error) {
	if !q.outboxScan.isMuch() {
		return b.moveOutbox(ctx, q)
	}
	from, due := q.outboxScan.begin()
	if !due {
		return 0, nil
	}
	m := &moving{b: b, from: q, unreachable: map[*queue]bool{}}
	if _, err := m.pass(ctx, "tail", newestPages); err != nil {
		return m.end(ctx, err)
	}
	return m.end(ctx, m.scan(ctx, from))
}

// scan moves entries from the head of the outbox on, behind the first from.
func (m *moving) scan(ctx context.Context, from int) error {
	m.stayed, m.pages = from, 0
	ended, err := m.pass(ctx, "head", scanPages)
	if err == nil {
		m.from.outboxScan.note(m.stayed, m.pages, ended)
	}
	return err
}

// pass moves entries from one end of the outbox, until some stayed on so many pages. If none
// stayed and half of the time for a pass is over, another pass goes on. It reports whether it
// came to the other end.
func (m *moving) pass(ctx context.Context, end string, pages int) (bool, error) {
	stayed := m.stayed
	for began := time.Now(); m.pages < pages; {
		if m.stayed == stayed && time.Since(began) > m.b.cfg.Timeout/2 {
			m.from.mover.start()
			return false, nil
		}
		v, err := m.b.repeat(ctx, m.b.scripts.Outbox, m.b.clients.Work, []string{m.from.Outbox},
			(&script.OutboxArgs{Skip: m.stayed, Entries: outboxPage, Bytes: outboxBytes, From: end}).Append(nil)...)
		behind, entries := int64(0), []string(nil)
		if err == nil {
			behind, entries, err = script.ParseOutbox(v)
		}
		if err != nil {
			return false, fmt.Errorf("read: %w", err)
		}
		before := m.stayed
		m.move(ctx, entries)
		if m.stayed > before {
			m.pages++
		}
		if behind == 0 && !m.takeAdded() || len(entries) == 0 {
			return true, nil
		}
		if conn.ContextErr(ctx) != nil {
			break
		}
	}
	return false, nil
}

// takeAdded reports whether entries were added since the last call.
func (m *moving) takeAdded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	added := m.added
	m.added = false
	return added
}

func (m *moving) end(ctx context.Context, err error) (int, error) {
	if err = errors.Join(m.failed, err); err != nil {
		return m.total, m.b.fail(ctx, "move outbox of queue "+m.from.Name, err)
	}
	return m.total, nil
}

// stay notes that n entries stay where they are, and why, unless err is nil.
func (m *moving) stay(n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stayed += n
	if err != nil && m.errors < maxPassErrors {
		m.errors++
		m.failed = errors.Join(m.failed, err)
	}
}

// move queues entries. A queue that cannot be reached does not keep those for others back, and
// is tried once in a pass.
func (m *moving) move(ctx context.Context, entries []string) {
	var (
		list  []*sending
		to    = map[*queue]*sending{}
		newer []unread
	)
	for _, entry := range entries {
		if strings.HasPrefix(entry, wire.CancelledOpens) {
			m.cancel(ctx, entry)
			continue
		}
		if strings.HasPrefix(entry, wire.EndedOpens) {
			m.endElsewhere(ctx, entry)
			continue
		}
		if strings.HasPrefix(entry, wire.GatheredOpens) {
			m.forgetElsewhere(ctx, entry)
			continue
		}
		q, run, err := m.read(entry)
		_, isNewer := wire.NewerID([]byte(wire.StoredRunIn(entry)), err)
		switch {
		case isNewer:
			newer = append(newer, unread{stored: []byte(entry), why: err})
			continue
		case err != nil:
			m.bury(ctx, entry, err)
			continue
		case m.unreachable[q]:
			m.stay(1, nil)
			continue
		case len(run.Links.OrZero().Members) > 0:
			m.moveGroup(ctx, entry, run)
			continue
		case to[q] == nil:
			to[q] = &sending{to: q}
			list = append(list, to[q])
		}
		if err := to[q].add(m.from, entry, run); err != nil {
			m.giveUp(ctx, q, entry, run, err)
		}
	}
	m.leaveNewer(ctx, newer)
	each(list, func(_ int, s *sending) { m.send(ctx, s) })
}

// read decodes the run of an entry, and returns its queue.
func (m *moving) read(entry string) (*queue, *broker.TaskRun, error) {
	stored := wire.StoredRunIn(entry)
	if stored == "" {
		return nil, nil, errors.New("an entry of the outbox is too short")
	}
	run := new(broker.TaskRun)
	if err := wire.ParseRun(new(broker.Decoder), []byte(stored), run); err != nil {
		return nil, nil, err
	}
	q, err := m.b.queue(run.Queue)
	return q, run, err
}

// sending is the entries that go from an outbox to one queue.
type sending struct {
	to      *queue
	runs    []*broker.TaskRun
	entries []string
	calls   []*enqueueCall
	moved   []string // keys
}

// add adds the run of an entry.
func (s *sending) add(from *queue, entry string, run *broker.TaskRun) error {
	gathers := strings.HasPrefix(entry, wire.GatheringOpens)
	if gathers {
		run.QueuedAt = time.Now() // from when it can expire
	}
	call, err := newEnqueueCall(&s.to.QueueKeys, []*broker.TaskRun{run})
	if err != nil {
		return err
	}
	call.canRetry = true
	if run.Keep > 0 && !gathers {
		call.tick = fmt.Sprintf("%d %s %s", max(wire.Millis(run.Keep), 1), run.ID, wire.OpenSkipped(wire.StartRecordAt(nil, broker.StateFailed, time.Now()), run))
	}
	s.setSource(call, from, entry, run)
	s.runs, s.entries, s.calls = append(s.runs, run), append(s.entries, entry), append(s.calls, call)
	return nil
}

// setSource sets what the call is stored instead of: the entry, if that is in the queue's own
// outbox, or else a key by which the queue knows that it has got the entry. A member stays in
// the outbox if it is a duplicate, for skipMember.
func (s *sending) setSource(call *enqueueCall, from *queue, entry string, run *broker.TaskRun) {
	isMember := run.Links != nil && run.Links.Group != ""
	plain, gathers := strings.CutPrefix(entry, wire.GatheringOpens)
	switch {
	case gathers && s.to == from:
		call.source = append([]byte{'g'}, plain...)
		call.owners = append([]string{s.to.PendingRun(run.ID)}, call.owners...)
	case gathers:
		key := s.to.Moved(tokenOf(plain) + wire.GatheredCloses)
		call.source = append([]byte{'p'}, tokenOf(plain)...)
		call.owners = append([]string{s.to.PendingRun(run.ID), key}, call.owners...)
		s.moved = append(s.moved, key)
	case s.to == from && isMember:
		call.source = append([]byte{'n'}, entry...)
	case s.to == from:
		call.source = append([]byte{'o'}, entry...)
	default:
		key := s.to.Moved(entry[:wire.TokenDigits])
		call.source, call.owners = []byte{'m'}, append([]string{key}, call.owners...)
		if isMember {
			call.source = []byte("ms")
		}
		s.moved = append(s.moved, key)
	}
}

// alone returns the sending of one of the runs.
func (s *sending) alone(i int) *sending {
	one := &sending{to: s.to, runs: s.runs[i : i+1], entries: s.entries[i : i+1], calls: s.calls[i : i+1]}
	switch s.calls[i].source[0] {
	case 'm':
		one.moved = s.calls[i].owners[:1]
	case 'p':
		one.moved = s.calls[i].owners[1:2]
	}
	return one
}

// send queues the runs of a sending, and removes from the outbox those that were stored,
// now or before, and duplicates. If a run is itself to blame for a failure, send gives it
// up. Others stay: the failure may pass.
func (m *moving) send(ctx context.Context, s *sending) {
	err := m.b.registerQueue(ctx, s.to)
	if err == nil {
		// Runs with own ids can exclude each other, so that they are stored one after the other.
		err = m.b.store(ctx, s.to, s.calls)
	}
	switch {
	case err == nil:
		m.removeSent(ctx, s)
	case refusesOne(err) && len(s.calls) > 1:
		for i := range s.calls {
			if m.isDown(s.to) {
				m.stay(len(s.calls)-i, nil)
				break
			}
			m.send(ctx, s.alone(i))
		}
	case refusesOne(err) && m.isToBlame(ctx, s.calls[0], err):
		if !tooLong(err) && strings.HasPrefix(s.entries[0], wire.GatheringOpens) && m.repairGathering(ctx, s) {
			m.send(ctx, s)
			return
		}
		m.giveUp(ctx, s.to, s.entries[0], s.runs[0], err)
	default:
		m.stayDown(s.to, err)
		m.stay(len(s.entries)-1, nil)
	}
}

// stayDown notes that an entry stays, and that its queue cannot be reached.
func (m *moving) stayDown(q *queue, err error) {
	m.mu.Lock()
	m.unreachable[q] = true
	m.mu.Unlock()
	m.stay(1, fmt.Errorf("to queue %s: %w", q.Name, err))
}

// repairGathering quarantines keys of a run that gathers a group, and reports whether there
// were any. It stores the pending run anew, since the entry says that the members have
// ended.
func (m *moving) repairGathering(ctx context.Context, s *sending) bool {
	run, call := s.runs[0], s.calls[0]
	value, err := wire.AppendPendingRun(nil, tokenOf(s.entries[0][len(wire.GatheringOpens):]), run)
	if err != nil {
		return false
	}
	some, _ := m.b.quarantineStep(ctx, s.to.Base, []string{s.to.PendingRun(run.ID)}, []any{"place", value})
	var kinds []any
	keys := slices.Concat(call.owners[1:], call.claims.keys, call.records)
	for range keys {
		kinds = append(kinds, "string")
	}
	if len(keys) == 0 {
		return some
	}
	more, _ := m.b.quarantineStep(ctx, s.to.Base, keys, kinds)
	return some || more
}

func (m *moving) isDown(q *queue) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unreachable[q]
}

// refusesOne reports whether one of several runs may be to blame for a failure to store
// them that does not pass.
func refusesOne(err error) bool {
	return conn.IsRefusal(err, "WRONGTYPE") || tooLong(err)
}

// tooLong reports whether the server refuses arguments of such a length.
func tooLong(err error) bool {
	return conn.IsReply(err) && strings.Contains(err.Error(), "invalid bulk length")
}

// isToBlame reports whether the run of a call was refused, and not all runs of its queue:
// a key of the run is of a wrong type, or the run is too large.
func (m *moving) isToBlame(ctx context.Context, call *enqueueCall, err error) bool {
	if tooLong(err) {
		return true
	}
	pipe := m.b.clients.Work.Pipeline()
	var types []conn.Reply[string]
	for _, keys := range [][]string{call.owners, call.claims.keys, call.records} {
		for _, key := range keys {
			types = append(types, pipe.Type(ctx, key))
		}
	}
	if len(types) == 0 || m.b.clients.ReadAll(ctx, pipe) != nil {
		return false
	}
	for _, t := range types {
		if v := t.Val(); v != "none" && v != "string" {
			return true
		}
	}
	return false
}

// removeSent removes the entries from the outbox that were sent and are over.
func (m *moving) removeSent(ctx context.Context, s *sending) {
	sent := m.sortSent(s)
	m.mu.Lock()
	m.total += sent.stored
	m.mu.Unlock()
	m.stay(len(s.entries)-sent.over-len(sent.undecided)-len(sent.members)-len(sent.lost), sent.failed)
	m.decide(ctx, s, sent.undecided)
	for _, i := range sent.members {
		m.skipMember(ctx, s, i)
	}
	for _, i := range sent.lost {
		m.lose(ctx, s, i)
	}
	if err := m.remove(ctx, s, sent.left); err != nil {
		m.stay(len(sent.left), err)
		return
	}
	if sent.failed == nil {
		m.stay(0, m.b.keepMoved(ctx, s.moved, movedKept))
	}
}

// sentEntries are the entries of a sending by what became of them.
type sentEntries struct {
	over      int      // stored, now or before, or a duplicate
	stored    int      // of those
	left      []string // of those that are over, what is to be removed
	undecided []int    // by their indexes
	members   []int    // duplicates that are members of groups, by their indexes
	lost      []int    // awaited groups, and are pending no more, by their indexes
	failed    error    // of the others
}

// sortSent sorts the entries of a sending, and notes the duplicates.
func (m *moving) sortSent(s *sending) (sent sentEntries) {
	for i, call := range s.calls {
		switch {
		case call.status == script.Stored:
			sent.stored++
			sent.noteOver(s, i)
		case call.status == script.Undecided:
			sent.undecided = append(sent.undecided, i)
		case call.status == script.PendingGone:
			sent.lost = append(sent.lost, i)
		case call.status == script.SourceGone:
			sent.noteOver(s, i)
		case errors.Is(call.result, broker.ErrDuplicate):
			if source := string(call.source); source[0] == 'n' || source == "ms" {
				sent.members = append(sent.members, i)
				continue
			}
			m.b.skipped.note(s.runs[i], call.result)
			sent.noteOver(s, i)
		default:
			sent.failed = errors.Join(sent.failed, call.result)
		}
	}
	return sent
}

// noteOver notes that an entry is over. In the queue's own outbox the script has removed it: to
// look for it there again would cost the more the longer the outbox is.
func (sent *sentEntries) noteOver(s *sending, i int) {
	sent.over++
	if source := s.calls[i].source[0]; source == 'm' || source == 'p' {
		sent.left = append(sent.left, s.entries[i])
	}
}

// decide sends runs again that large calls had reserved keys of, if these calls are
// decided now. Otherwise they stay.
func (m *moving) decide(ctx context.Context, s *sending, undecided []int) {
	for _, i := range undecided {
		of, err := m.b.reservers(ctx, s.to, s.calls[i].reserved())
		decided := err == nil
		for token, reserved := range of {
			over, failed := m.b.decide(ctx, s.to, token, reserved...)
			decided, err = decided && over, errors.Join(err, failed)
		}
		if !decided {
			m.stay(1, err)
			continue
		}
		m.send(ctx, s.alone(i))
	}
}

// remove removes entries that were sent to another queue.
func (m *moving) remove(ctx context.Context, s *sending, over []string) error {
	if len(over) == 0 {
		return nil
	}
	if err := m.b.keepMoved(ctx, s.moved, stayedKept); err != nil {
		return err
	}
	pipe := m.b.clients.Work.Pipeline()
	for _, entry := range over {
		pipe.LRem(ctx, m.from.Outbox, 1, entry)
	}
	err := m.b.clients.Send(ctx, pipe)
	return err
}

// keepMoved has a queue remember for a time that it has got entries.
func (b *Broker) keepMoved(ctx context.Context, keys []string, d time.Duration) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := b.clients.Work.Pipeline()
	for _, key := range keys {
		pipe.PExpire(ctx, key, d)
	}
	err := b.clients.Send(ctx, pipe)
	return err
}
