package redis

import (
	"bufio"
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis/internal/conn"
	"github.com/taskgen/taskgen/redis/internal/resp"
	"github.com/taskgen/taskgen/redis/internal/script"
)

// takeWaiters are the takes of this process that found nothing and wait. Those that wait for
// the same keys share one blocking read. The read goes on after a take is cancelled, and
// the next take uses it. A wake token that comes when nobody is left goes back to the
// server, for other processes.
type takeWaiters struct {
	b *Broker

	mu      sync.Mutex
	readers map[string]*tokenReader // by their ids
}

// wakeToken is the member of a wake set, or the entry of a watch's list, that wakes one
// take.
type wakeToken struct {
	key   string // where it was
	entry string // of a list; empty for a wake set
	q     *queue // to be asked
}

// tokenReader reads the wake tokens at some keys, for the takes that wait for them.
type tokenReader struct {
	id       string // its keys
	keys     []string
	w        *watch             // whose lists the keys are; nil: they are wake sets
	wakeSets map[string]*queue  // whose wake set each key is
	waiters  []chan []wakeToken // the takes, the longest waiting first; each gets tokens once at most
}

// tokensAtOnce is how many wake tokens one read takes at most.
const tokensAtOnce = 32

// wait blocks until one of the readers has wake tokens, and returns them. After the given
// time it returns none. Its errors are ctx's and broker.ErrClosed.
func (s *takeWaiters) wait(ctx context.Context, readers []*tokenReader, wait time.Duration) ([]wakeToken, error) {
	woken := make(chan []wakeToken, 1)
	joined := s.join(readers, woken)
	defer s.leave(joined, woken)
	timer := time.NewTimer(min(wait, pollInterval))
	defer timer.Stop()
	select {
	case tokens := <-woken:
		return tokens, nil
	case <-timer.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-s.b.clients.Closed:
		return nil, broker.ErrClosed
	}
}

// runAfterWait executes a script once a wake token has come to one of the wake sets, or none
// has for the given time. Both commands are one write, and the server goes from the first
// to the second by itself: the reply comes as soon as a token could.
func (b *Broker) runAfterWait(ctx context.Context, s script.Script, wakeSets []string, wait time.Duration, read conn.Reader, keys []string, args []any) (any, error) {
	script := s.Encode("evalsha", s.Digest, keys, args)
	return b.clients.Block.Exec(ctx, keys[0], func(to []byte) []byte {
		return script(appendWait(to, wakeSets, wait))
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

// appendWait appends the command that blocks for a wake token.
func appendWait(to []byte, wakeSets []string, wait time.Duration) []byte {
	to = resp.AppendArray(to, 6+len(wakeSets))
	to = resp.AppendBulk(to, "BZMPOP")
	to = resp.AppendBulk(to, strconv.FormatFloat(max(wait, time.Millisecond).Seconds(), 'f', 3, 64))
	to = resp.AppendNumber(to, int64(len(wakeSets)))
	for _, key := range wakeSets {
		to = resp.AppendBulk(to, key)
	}
	return resp.AppendBulk(resp.AppendBulk(resp.AppendBulk(to, "MIN"), "COUNT"), "1")
}

// wakeSetsOf returns the wake sets of a queue of the kinds that there is room for.
func wakeSetsOf(q *queue, r room) (keys []string) {
	for _, kind := range r.kinds() {
		keys = append(keys, q.Wake[kind])
	}
	return keys
}

// wakeSetReader returns a reader of the wake sets of one queue.
func wakeSetReader(q *queue, r room) *tokenReader {
	g := &tokenReader{keys: wakeSetsOf(q, r), wakeSets: map[string]*queue{}}
	for _, key := range g.keys {
		g.wakeSets[key] = q
	}
	return g
}

// reader returns a reader of the lists of the watch.
func (w *watch) reader(r room) *tokenReader { return &tokenReader{keys: w.tokenLists(r), w: w} }

// join adds a take to each reader, or to one with the same keys that is running. It returns
// those the take was added to.
func (s *takeWaiters) join(readers []*tokenReader, woken chan []wakeToken) (joined []*tokenReader) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range readers {
		if len(g.keys) == 0 {
			continue
		}
		g.id = strings.Join(g.keys, " ")
		if running := s.readers[g.id]; running != nil {
			g = running
		} else if s.b.clients.Spawn(func() { s.readLoop(g) }) {
			s.readers[g.id] = g
		} else {
			continue
		}
		g.waiters = append(g.waiters, woken)
		joined = append(joined, g)
	}
	return joined
}

// leave removes a take from the readers. Tokens that it was given and did not get to use go
// to others.
func (s *takeWaiters) leave(readers []*tokenReader, woken chan []wakeToken) {
	s.mu.Lock()
	for _, g := range readers {
		g.waiters = slices.DeleteFunc(g.waiters, func(c chan []wakeToken) bool { return c == woken })
	}
	s.mu.Unlock()
	select {
	case tokens := <-woken:
		s.passTokens(readers, tokens)
	default:
	}
}

// passTokens wakes other takes with tokens that were not used: those that wait at the
// readers, or of any process. It does not block.
func (s *takeWaiters) passTokens(readers []*tokenReader, tokens []wakeToken) {
	for _, g := range readers {
		if len(tokens) > 0 && slices.Contains(g.keys, tokens[0].key) {
			tokens = s.wake(g, tokens)
		}
	}
	if len(tokens) > 0 {
		s.b.clients.Spawn(func() { s.putBack(tokens) })
	}
}

// putBack puts tokens back where they were. If that fails, other takes poll within two
// seconds.
func (s *takeWaiters) putBack(tokens []wakeToken) {
	ctx := context.Background()
	_ = s.b.clients.Work.Send(ctx, func(pipe conn.Pipeline) {
		for _, t := range tokens {
			if t.entry == "" {
				pipe.ZAdd(ctx, t.key, conn.Scored{Member: "1"})
			} else {
				pipe.RPush(ctx, t.key, t.entry)
			}
		}
	})
}

// wake hands tokens to the takes that have waited longest, in shares as equal as can be. It
// returns those that nobody got.
func (s *takeWaiters) wake(g *tokenReader, tokens []wakeToken) []wakeToken {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(g.waiters) > 0 && len(tokens) > 0 {
		first := g.waiters[0]
		share := (len(tokens) + len(g.waiters) - 1) / len(g.waiters)
		g.waiters = g.waiters[1:]
		select {
		case first <- tokens[:share:share]:
			tokens = tokens[share:]
		default: // it has tokens from another reader
		}
	}
	return tokens
}

// readLoop reads tokens while any take waits for them.
func (s *takeWaiters) readLoop(g *tokenReader) {
	var backoff conn.Backoff
	for !s.isOver(g) {
		tokens, err := s.read(g)
		if err != nil && !conn.IsMissing(err) {
			s.logWrongType(g, err)
			backoff.Sleep(context.Background(), s.b.clients)
			continue
		}
		backoff = conn.Backoff{}
		if left := s.wake(g, tokens); len(left) > 0 {
			s.passTokens(nil, left)
		}
	}
}

// isOver reports whether no take waits for a reader, which is removed then.
func (s *takeWaiters) isOver(g *tokenReader) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(g.waiters) > 0 && !s.b.clients.IsClosed() {
		return false
	}
	delete(s.readers, g.id)
	return true
}

// logWrongType logs, once, that tokens cannot be read because of the type of a key.
func (s *takeWaiters) logWrongType(g *tokenReader, err error) {
	if !conn.IsWrongType(err) || !s.b.logged.isNew("wait "+g.keys[0]) {
		return
	}
	ctx := context.Background()
	err = s.b.blame(ctx, err, g.keys...)
	s.b.cfg.Logger.WarnContext(ctx, "cannot wait for runs, polling every two seconds", "keys", strings.Join(g.keys, " "), "error", err)
}

// read blocks until there are tokens, for two seconds at most.
func (s *takeWaiters) read(g *tokenReader) ([]wakeToken, error) {
	if g.w == nil {
		key, err := s.b.clients.Block.BZMPopMin(context.Background(), pollInterval, g.keys...)
		if err != nil {
			return nil, err
		}
		return []wakeToken{{key: key, q: g.wakeSets[key]}}, nil
	}
	keys := slices.Clone(g.keys)
	rand.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] }) // the server reads the first that has some
	list, entries, err := s.b.clients.Block.BLMPop(context.Background(), pollInterval, tokensAtOnce, keys...)
	if err != nil {
		return nil, err
	}
	return g.w.tokens(list, entries), nil
}

// tokens returns the entries of a list that are for queues of the watch. It sends the others
// to the watches that left them.
func (w *watch) tokens(list string, entries []string) (tokens []wakeToken) {
	var others []wakeToken
	for _, entry := range entries {
		q, to := w.queueOf(list, entry)
		if q != nil {
			tokens = append(tokens, wakeToken{list, entry, q})
		} else if to != "" {
			others = append(others, wakeToken{key: to, entry: entry})
		}
	}
	if len(others) > 0 {
		w.b.clients.Spawn(func() { w.forward(others) })
	}
	return tokens
}

// forward appends tokens of other watches to these watches' own lists.
func (w *watch) forward(tokens []wakeToken) {
	ctx := context.Background()
	_ = w.b.clients.Work.Send(ctx, func(pipe conn.Pipeline) {
		for _, t := range tokens {
			pipe.RPush(ctx, t.key, t.entry)
			pipe.PExpire(ctx, t.key, time.Minute)
		}
	})
}

// poll returns tokens that are there, without waiting.
func (w *watch) poll(ctx context.Context, r room) ([]wakeToken, error) {
	keys := w.tokenLists(r)
	lists := make([]conn.Reply[[]string], len(keys))
	err := w.b.clients.Work.Send(ctx, func(pipe conn.Pipeline) {
		for i, key := range keys {
			lists[i] = pipe.LPopCount(ctx, key, tokensAtOnce)
		}
	})
	if err != nil && !conn.IsReply(err) {
		return nil, w.b.fail(ctx, "read wake tokens", err)
	}
	var tokens []wakeToken
	for i, key := range keys {
		tokens = append(tokens, w.tokens(key, lists[i].Val())...)
	}
	return tokens, nil
}
