package redis

import (
	"bufio"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
)

// sleepers are the takes of this process that found nothing. All that wait for
// the same queues and kinds share one blocking read of their wake sets, which
// outlives a take that is cancelled: the next one uses it. A token that comes
// when nobody is left goes back, for other processes.
type sleepers struct {
	b *Broker

	mu     sync.Mutex
	groups map[string]*sleepGroup // by its keys
}

type sleepGroup struct {
	id      string
	keys    []string
	waiting []chan string // each gets the key of at most one token
}

// wait returns true when there is something to take, false after nap, and else
// ctx's error or broker.ErrClosed.
func (s *sleepers) wait(ctx context.Context, queues []*queue, r room, nap time.Duration) (woken bool, err error) {
	token := make(chan string, 1)
	groups := s.join(wakeKeys(queues, r, s.b.clients.cluster), token)
	defer s.part(groups, token)
	timer := time.NewTimer(min(nap, longestNap))
	defer timer.Stop()
	select {
	case <-token:
		return true, nil
	case <-timer.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-s.b.closed:
		return false, broker.ErrClosed
	}
}

// runAfterWait executes a script when there is a token in one of the wake sets,
// or none has come for the given time. Both are one write: the server goes on
// from the one to the other by itself, so whoever waits gets what the script
// returns as soon as it could get the token.
func (b *Broker) runAfterWait(ctx context.Context, s script, wake []string, wait time.Duration, read reader, keys []string, args []any) (any, error) {
	script := s.encode("evalsha", s.digest, keys, args)
	return b.clients.block.routes.exec(ctx, keys[0], func(to []byte) []byte {
		to = appendArray(to, 6+len(wake))
		to = appendBulk(to, "BZMPOP")
		to = appendBulk(to, strconv.FormatFloat(max(wait, time.Millisecond).Seconds(), 'f', 3, 64))
		to = appendNumber(to, int64(len(wake)))
		for _, key := range wake {
			to = appendBulk(to, key)
		}
		to = appendBulk(appendBulk(appendBulk(to, "MIN"), "COUNT"), "1")
		return script(to)
	}, func(in *bufio.Reader) (any, error) {
		token, err := readReply(in, 0)
		if err != nil {
			return nil, err
		}
		v, err := read(in)
		if refused, ok := token.(serverError); ok && err == nil {
			return refused, nil
		}
		return v, err
	}, nil)
}

// wakeKeys returns the lists to wait for, those together that one command can
// read.
func wakeKeys(queues []*queue, r room, cluster bool) [][]string {
	var groups [][]string
	for i, q := range queues {
		var keys []string
		if r.io > 0 {
			keys = append(keys, q.wake[0])
		}
		if r.cpu > 0 {
			keys = append(keys, q.wake[1])
		}
		if cluster || i == 0 {
			groups = append(groups, keys)
		} else {
			groups[0] = append(groups[0], keys...)
		}
	}
	return groups
}

func (s *sleepers) join(lists [][]string, woken chan string) []*sleepGroup {
	s.mu.Lock()
	defer s.mu.Unlock()
	var joined []*sleepGroup
	for _, keys := range lists {
		if len(keys) == 0 {
			continue
		}
		// Callers vary the order of their queues.
		sorted := slices.Sorted(slices.Values(keys))
		id := strings.Join(sorted, " ")
		g := s.groups[id]
		if g == nil {
			g = &sleepGroup{id: id, keys: sorted}
			if !s.b.spawn(func() { s.listen(g) }) {
				continue
			}
			s.groups[id] = g
		}
		g.waiting = append(g.waiting, woken)
		joined = append(joined, g)
	}
	return joined
}

// part ends a wait. A token it was given but has not used is given on.
func (s *sleepers) part(groups []*sleepGroup, woken chan string) {
	s.mu.Lock()
	for _, g := range groups {
		g.waiting = slices.DeleteFunc(g.waiting, func(c chan string) bool { return c == woken })
	}
	s.mu.Unlock()
	select {
	case key := <-woken:
		s.giveOn(groups, key)
	default:
	}
}

// giveOn wakes another that waits for the key, here or in another process.
func (s *sleepers) giveOn(groups []*sleepGroup, key string) {
	for _, g := range groups {
		if slices.Contains(g.keys, key) && s.wake(g, key) {
			return
		}
	}
	s.b.spawn(func() {
		// Should this fail, others look by themselves within three seconds.
		_ = s.b.clients.work.ZAdd(context.Background(), key, goredis.Z{Member: "1"}).Err()
	})
}

// wake hands a token to the one that has waited longest.
func (s *sleepers) wake(g *sleepGroup, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(g.waiting) > 0 {
		first := g.waiting[0]
		g.waiting = g.waiting[1:]
		select {
		case first <- key:
			return true
		default: // it has one already, from another group
		}
	}
	return false
}

// listen reads tokens while anybody waits for them.
func (s *sleepers) listen(g *sleepGroup) {
	var wait backoff
	for {
		s.mu.Lock()
		if len(g.waiting) == 0 || s.b.isClosed() {
			delete(s.groups, g.id)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		key, _, err := s.b.clients.block.BZMPop(context.Background(), longestNap, "min", 1, g.keys...).Result()
		switch {
		case err == nil:
			wait = backoff{}
			if !s.wake(g, key) {
				s.giveOn(nil, key)
			}
		case errors.Is(err, goredis.Nil):
			wait = backoff{}
		default:
			wait.sleep(context.Background(), s.b)
		}
	}
}

// backoff paces tries against a server that fails.
type backoff struct{ last time.Duration }

func (w *backoff) sleep(ctx context.Context, b *Broker) {
	w.last = min(max(2*w.last, 50*time.Millisecond), longestNap)
	timer := time.NewTimer(w.last)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-b.closed:
	}
}

// spawn starts a goroutine that Close waits for. It reports false when the
// broker is closed.
func (b *Broker) spawn(f func()) bool {
	b.spawning.Lock()
	defer b.spawning.Unlock()
	if b.isClosed() {
		return false
	}
	b.running.Go(f)
	return true
}
