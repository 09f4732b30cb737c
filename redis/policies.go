package redis

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
)

// The extension of an element says to scripts what holds a run back, so that they
// need not read the envelope:
//
//	2     length of what follows, big endian
//	1, …  length of the fair value, the value
//	1, …  length of the unique key, the key
//	1     number of limits, and for each:
//	1, …  length of its key, the key
//	8     its maximum, big endian
//	8     its time in microseconds, big endian; 0: it is one of runs at once
//
// Each run has one extension only, which is compared with the run's envelope.

// maxExact is up to where scripts, whose numbers are doubles, count exactly.
const maxExact = 1 << 53

// Policies returns all policies.
func (b *Broker) Policies() broker.Policy { return broker.AllPolicies }

// maxSkipped bounds what is kept for the next Finish or Recover: a process that only
// cancels runs calls neither.
const maxSkipped = 1000

// skipped are the runs that were found to be duplicates and not yet reported.
type skipped struct {
	mu   sync.Mutex
	list []broker.SkippedDuplicate
}

// take returns what was skipped since it was called last.
func (s *skipped) take() []broker.SkippedDuplicate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

// note notes that a run was not queued, because its queueing returned this error.
func (s *skipped) note(run *broker.TaskRun, err error) {
	left := *run
	left.Payload, left.Links = nil, nil
	by := run.ID
	if conflict, ok := errors.AsType[*broker.DuplicateError](err); ok && len(conflict.Runs) > 0 {
		by = conflict.Runs[0].ID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) < maxSkipped {
		s.list = append(s.list, broker.SkippedDuplicate{Run: &left, LiveID: by})
	}
}

func policyFlags(r *broker.TaskRun) (flags byte) {
	if r.Rules == nil {
		return 0
	}
	if r.Rules.Unique != "" {
		flags |= flagUnique
	}
	if r.Rules.Fair != "" || len(r.Rules.Limits) > 0 {
		flags |= flagLine
	}
	return flags
}

// policed reports whether scripts have to look after a run.
func policed(r *broker.TaskRun) bool { return policyFlags(r) != 0 }

// held reports whether a run counts at limits while it is in flight.
func held(r *broker.TaskRun) bool {
	if r.Rules == nil {
		return false
	}
	for _, l := range r.Rules.Limits {
		if l.Per == 0 {
			return true
		}
	}
	return false
}

func appendExtension(b []byte, r *broker.TaskRun) []byte {
	at := len(b)
	b = append(b, 0, 0)
	text := func(s string) { b = append(append(b, byte(len(s))), s...) }
	rules := r.Rules.OrZero()
	text(rules.Fair)
	text(rules.Unique)
	b = append(b, byte(len(rules.Limits)))
	for _, l := range rules.Limits {
		text(l.Key)
		b = binary.BigEndian.AppendUint64(b, uint64(min(int64(l.Max), maxExact)))
		b = binary.BigEndian.AppendUint64(b, uint64(micros(l.Per)))
	}
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-2))
	return b
}

// micros rounds a time up to whole microseconds.
func micros(d time.Duration) int64 {
	us := d / time.Microsecond
	if d%time.Microsecond > 0 {
		us++
	}
	return min(int64(us), maxExact)
}

// extensionEnd returns where the extension that begins at the index ends.
func extensionEnd(e []byte, at int) (end int, ok bool) {
	if len(e) < at+2 {
		return 0, false
	}
	end = at + 2 + int(binary.BigEndian.Uint16(e[at:]))
	return end, end <= len(e)
}

// unique returns the unique key that the extension tells, "" for none.
func (h *header) unique() string {
	e := h.extension
	if h.flags&flagUnique == 0 || len(e) < 3 || len(e) < 4+int(e[2]) {
		return ""
	}
	e = e[3+int(e[2]):]
	if len(e) < 1+int(e[0]) {
		return ""
	}
	return string(e[1 : 1+int(e[0])])
}

// checkPolicies holds what scripts read of a run against its envelope: they must
// not count what a consumer gives back, or the other way round.
func (h *header) checkPolicies(r *broker.TaskRun) error {
	flags := policyFlags(r)
	if flags == 0 && h.extension == nil {
		return nil
	}
	if flags != h.flags&(flagUnique|flagLine) || !bytes.Equal(h.extension, appendExtension(nil, r)) {
		return errors.New("decode stored run: its extension says otherwise than its envelope")
	}
	return nil
}

// claims are the unique keys of a group of runs.
type claims struct {
	keys    []string
	args    []any // of each the run's id, when it is due, and ms from then on, or ""
	runs    []int // of each the index of its run
	refused []int // indexes of runs whose key an earlier one of the group has
	first   map[string]int
}

// add claims a run's unique key.
func (c *claims) add(q *queue, index int, run *broker.TaskRun) {
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
		keep = max(millis(rules.UniqueFor), 1)
	}
	c.keys = append(c.keys, q.unique(rules.Unique))
	c.args = append(c.args, run.ID, dueOf(run), keep)
	c.runs = append(c.runs, index)
}

// refuseTwice makes the error of a group that has a key twice. What it says of runs
// of others is as they were a moment ago.
func (b *Broker) refuseTwice(ctx context.Context, c *claims, runs []*broker.TaskRun) error {
	owners, err := promptly(ctx, b, func(ctx context.Context) ([]any, error) {
		return b.clients.work.MGet(ctx, c.keys...).Result()
	})
	if err != nil {
		return b.fail(ctx, "queue tasks: read unique keys", err)
	}
	refused := new(broker.DuplicateError)
	live := map[string]string{}
	for i, index := range c.runs {
		if id := ownerOf(owners[i]); id != "" {
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

// ownerOf returns the id of the run that a unique key names, "" if it has ended.
func ownerOf(value any) string {
	text, _ := value.(string)
	for i := range len(text) {
		if text[i] == ' ' {
			return text[:i]
		}
	}
	return ""
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
