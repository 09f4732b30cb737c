package redis

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// takeWaiters are the takes of this process that found nothing. All that wait for
// the same queues and kinds share one blocking read, which
// outlives a take that is cancelled: the next one uses it. A token that comes
// when nobody is left goes back, for other processes.
type takeWaiters struct {
	b *Broker

	mu   sync.Mutex
	sets map[string]*waitSet // by its keys
}

// token is what wakes a take.
type token struct {
	key    string // where it was
	member string // of a list; of a wake set it is empty
	q      *queue
}

// waitSet is those who wait for the same keys.
type waitSet struct {
	id      string
	keys    []string
	w       *watch            // whose lists they are; nil: wake sets
	sets    map[string]*queue // whose wake sets they are
	waiting []chan []token    // each gets tokens once at most
}

// tokensAtOnce is how many tokens one read takes at most.
const tokensAtOnce = 32

// wait returns tokens of what there is to take, none after nap, and else ctx's error
// or broker.ErrClosed.
func (s *takeWaiters) wait(ctx context.Context, groups []*waitSet, nap time.Duration) ([]token, error) {
	tokens := make(chan []token, 1)
	joined := s.join(groups, tokens)
	defer s.leave(joined, tokens)
	timer := time.NewTimer(min(nap, longestNap))
	defer timer.Stop()
	select {
	case got := <-tokens:
		return got, nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.b.clients.Closed:
		return nil, broker.ErrClosed
	}
}

// runAfterWait executes a script when there is a token in one of the wake sets,
// or none has come for the given time. Both are one write: the server goes on
// from the one to the other by itself, so whoever waits gets what the script
// returns as soon as it could get the token.
func (b *Broker) runAfterWait(ctx context.Context, s script.Script, wake []string, wait time.Duration, read conn.Reader, keys []string, args []any) (any, error) {
	script := s.Encode("evalsha", s.Digest, keys, args)
	return b.clients.Block.Exec(ctx, keys[0], func(to []byte) []byte {
		to = resp.AppendArray(to, 6+len(wake))
		to = resp.AppendBulk(to, "BZMPOP")
		to = resp.AppendBulk(to, strconv.FormatFloat(max(wait, time.Millisecond).Seconds(), 'f', 3, 64))
		to = resp.AppendNumber(to, int64(len(wake)))
		for _, key := range wake {
			to = resp.AppendBulk(to, key)
		}
		to = resp.AppendBulk(resp.AppendBulk(resp.AppendBulk(to, "MIN"), "COUNT"), "1")
		return script(to)
	}, func(in *bufio.Reader) (any, error) {
		token, err := resp.ReadReply(in, 0)
		if err != nil {
			return nil, err
		}
		v, err := read(in)
		if refused, ok := token.(resp.Error); ok && err == nil {
			return refused, nil
		}
		return v, err
	}, nil)
}

// wakeKeys returns the wake sets of a queue of the kinds there is room for.
func wakeKeys(q *queue, r room) (keys []string) {
	for _, kind := range r.kinds() {
		keys = append(keys, q.Wake[kind])
	}
	return keys
}

// wakeSet is those who wait for tokens of one queue.
func wakeSet(q *queue, r room) *waitSet {
	g := &waitSet{keys: wakeKeys(q, r), sets: map[string]*queue{}}
	for _, key := range g.keys {
		g.sets[key] = q
	}
	return g
}

// waitSet is those who wait for tokens of any of the queues.
func (w *watch) waitSet(r room) *waitSet { return &waitSet{keys: w.lists(r), w: w} }

func (s *takeWaiters) join(groups []*waitSet, woken chan []token) []*waitSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	var joined []*waitSet
	for _, g := range groups {
		if len(g.keys) == 0 {
			continue
		}
		g.id = strings.Join(g.keys, " ")
		if there := s.sets[g.id]; there != nil {
			g = there
		} else if s.b.clients.Spawn(func() { s.waitLoop(g) }) {
			s.sets[g.id] = g
		} else {
			continue
		}
		g.waiting = append(g.waiting, woken)
		joined = append(joined, g)
	}
	return joined
}

// leave ends a wait. Tokens it was given but has not used are given on.
func (s *takeWaiters) leave(groups []*waitSet, woken chan []token) {
	s.mu.Lock()
	for _, g := range groups {
		g.waiting = slices.DeleteFunc(g.waiting, func(c chan []token) bool { return c == woken })
	}
	s.mu.Unlock()
	select {
	case tokens := <-woken:
		s.passTokens(groups, tokens)
	default:
	}
}

// passTokens wakes others that wait for the tokens, here or in another process.
func (s *takeWaiters) passTokens(groups []*waitSet, tokens []token) {
	for _, g := range groups {
		if len(tokens) > 0 && slices.Contains(g.keys, tokens[0].key) {
			tokens = s.wake(g, tokens)
		}
	}
	if len(tokens) == 0 {
		return
	}
	s.b.clients.Spawn(func() {
		// If this fails, others look by themselves within three seconds.
		_, _ = s.b.clients.Work.Pipelined(context.Background(), func(pipe goredis.Pipeliner) error {
			for _, t := range tokens {
				if t.member == "" {
					pipe.ZAdd(context.Background(), t.key, goredis.Z{Member: "1"})
				} else {
					pipe.RPush(context.Background(), t.key, t.member)
				}
			}
			return nil
		})
	})
}

// wake hands tokens to those who have waited longest, as equal shares as can be, and
// returns those that nobody got.
func (s *takeWaiters) wake(g *waitSet, tokens []token) []token {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(g.waiting) > 0 && len(tokens) > 0 {
		first := g.waiting[0]
		share := (len(tokens) + len(g.waiting) - 1) / len(g.waiting)
		g.waiting = g.waiting[1:]
		select {
		case first <- tokens[:share:share]:
			tokens = tokens[share:]
		default: // it has some already, from another group
		}
	}
	return tokens
}

// waitLoop reads tokens while anybody waits for them.
func (s *takeWaiters) waitLoop(g *waitSet) {
	var wait conn.Backoff
	for {
		s.mu.Lock()
		if len(g.waiting) == 0 || s.b.clients.IsClosed() {
			delete(s.sets, g.id)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		tokens, err := s.read(g)
		switch {
		case err == nil || errors.Is(err, goredis.Nil):
			wait = conn.Backoff{}
			if left := s.wake(g, tokens); len(left) > 0 {
				s.passTokens(nil, left)
			}
		default:
			s.logOdd(g, err)
			wait.Sleep(context.Background(), s.b.clients)
		}
	}
}

// logOdd logs, once, that tokens cannot be read for the type of a key.
func (s *takeWaiters) logOdd(g *waitSet, err error) {
	if !conn.IsWrongType(err) || !s.b.logged.isNew("wait "+g.keys[0]) {
		return
	}
	ctx := context.Background()
	err = s.b.blame(ctx, err, g.keys...)
	s.b.cfg.Logger.WarnContext(ctx, "cannot wait for runs, looking every two seconds", "keys", strings.Join(g.keys, " "), "error", err)
}

// read blocks until there are tokens, or for a while.
func (s *takeWaiters) read(g *waitSet) ([]token, error) {
	if g.w == nil {
		key, _, err := s.b.clients.Block.BZMPop(context.Background(), longestNap, "min", 1, g.keys...).Result()
		if err != nil {
			return nil, err
		}
		return []token{{key: key, q: g.sets[key]}}, nil
	}
	keys := slices.Clone(g.keys)
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] }) // the first that has some is read
	list, members, err := s.b.clients.Block.BLMPop(context.Background(), longestNap, "left", tokensAtOnce, keys...).Result()
	if err != nil {
		return nil, err
	}
	return g.w.tokens(list, members), nil
}

// tokens are those of the members of a list that wake for one of the queues. The
// others go to those who left them.
func (w *watch) tokens(list string, members []string) (tokens []token) {
	var theirs []token
	for _, member := range members {
		q, to := w.queueOf(list, member)
		if q != nil {
			tokens = append(tokens, token{list, member, q})
		} else if to != "" {
			theirs = append(theirs, token{key: to, member: member})
		}
	}
	if len(theirs) > 0 {
		w.b.clients.Spawn(func() {
			_, _ = w.b.clients.Work.Pipelined(context.Background(), func(pipe goredis.Pipeliner) error {
				for _, t := range theirs {
					pipe.RPush(context.Background(), t.key, t.member)
					pipe.PExpire(context.Background(), t.key, time.Minute)
				}
				return nil
			})
		})
	}
	return tokens
}

// poll returns tokens that are there, without waiting.
func (w *watch) poll(ctx context.Context, r room) ([]token, error) {
	keys := w.lists(r)
	lists := make([]*goredis.StringSliceCmd, len(keys))
	_, err := conn.WithGrace(ctx, w.b.clients, func(ctx context.Context) ([]goredis.Cmder, error) {
		return w.b.clients.Work.Pipelined(ctx, func(pipe goredis.Pipeliner) error {
			for i, key := range keys {
				lists[i] = pipe.LPopCount(ctx, key, tokensAtOnce)
			}
			return nil
		})
	})
	if reply := goredis.Error(nil); err != nil && !errors.As(err, &reply) {
		return nil, w.b.fail(ctx, "read tokens", err)
	}
	var tokens []token
	for i, key := range keys {
		tokens = append(tokens, w.tokens(key, lists[i].Val())...)
	}
	return tokens, nil
}
