package redis

import (
	"context"
	"fmt"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/wire"
)

// FindDead returns a page of the queue's dead letters, the newest first. One command reads 1,000
// letters, or a mebibyte. A page ends early once its letters are larger than 32 MiB.
func (b *Broker) FindDead(ctx context.Context, queueName string, d broker.DeadSearch) (*broker.DeadPage, error) {
	page := new(broker.DeadPage)
	s, err := b.newDeadSearch(ctx, queueName, d, func(l *foundLetter) { page.Letters = append(page.Letters, l.letter) })
	if err != nil {
		return nil, fmt.Errorf("find dead letters: %w", err)
	}
	if err := s.run(ctx); err != nil {
		return nil, b.fail(ctx, "find dead letters of queue "+s.q.Name, b.blameIn(ctx, err, s.q))
	}
	page.Looked, page.Total, page.After = s.looked, s.total, s.after()
	return page, nil
}

// foundLetter is a dead letter that a search has found, and its entry.
type foundLetter struct {
	letter *broker.DeadLetter
	entry  string
	index  int64 // in the list
	behind int64 // entries in the list
}

// deadSearch is a search for dead letters.
type deadSearch struct {
	pageSearch
	match func(*broker.DeadLetter) bool
	keep  func(*foundLetter)
}

func (b *Broker) newDeadSearch(ctx context.Context, queueName string, d broker.DeadSearch, keep func(*foundLetter)) (*deadSearch, error) {
	q, err := b.queue(queueName)
	if err != nil {
		return nil, err
	}
	s := &deadSearch{pageSearch: pageSearch{b: b, q: q, of: "dead " + q.Name, places: []searchPlace{{key: q.Dead}}, sifts: d.Match != nil}, match: d.Match, keep: keep}
	s.bound(d.Max, d.Look)
	if s.at, err = parseCursor(s.of, d.After, 1); err != nil {
		return nil, err
	}
	err = b.clients.Retry(ctx, conn.MayRepeat, func() (err error) {
		s.total, err = b.clients.Work.LLen(ctx, q.Dead)
		return err
	})
	if err != nil {
		return nil, b.fail(ctx, "count dead letters of queue "+q.Name, b.blameIn(ctx, err, q))
	}
	return s, nil
}

// run makes the page.
func (s *deadSearch) run(ctx context.Context) error {
	for !s.over && !s.full() {
		reply, err := s.readList(ctx, s.q.Dead, 1)
		if err != nil || reply == nil {
			return err
		}
		behind := reply.Behind + int64(len(reply.Entries))
		first := reply.At - int64(len(reply.Entries)) + 1
		for i, entry := range reply.Entries {
			s.looked++
			s.at.at, s.at.behind = first+int64(i), behind-int64(i)-1
			found := s.see(entry)
			s.at.passed(anchorOf(entry, true), !found || !s.removes)
			if s.full() && s.at.behind > 0 {
				return nil
			}
		}
		if reply.Behind == 0 {
			s.pass()
		}
	}
	return nil
}

// see looks at a dead letter, and reports whether it matches.
func (s *deadSearch) see(entry string) bool {
	letter := wire.ReadDeadLetter(entry)
	if s.match != nil && !s.match(letter) {
		return false
	}
	s.found++
	s.bytes += len(entry)
	s.keep(&foundLetter{letter, entry, s.at.at, s.at.behind})
	return true
}
