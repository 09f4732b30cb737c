package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/taskgen/taskgen/broker"
)

const (
	maxCommit = 512                    // calls that one transaction serves
	poll      = 100 * time.Millisecond // between looks for what other processes wrote, while takes wait
)

// The states of a call.
const (
	offered   int32 = iota // its caller may still withdraw it
	claimed                // the writer works on it
	withdrawn              // its context ended first
)

// call is what a caller asks of the writer.
type call struct {
	// do does it within a transaction. If it returns an error, it has written nothing.
	do func(t *tx) error

	// queues are those that a take takes from, nil for any other call. A take that
	// returns errNothing waits until one of them has a run.
	queues []string

	state atomic.Int32
	err   chan error
}

var (
	errNothing = errors.New("no run is due")
	errLeft    = fmt.Errorf("the session was closed: %w", broker.ErrLeaseLost)
)

// writer is the goroutine of a broker that writes, with the connection that it alone uses.
type writer struct {
	conn  *sql.Conn
	log   *slog.Logger
	stmts map[string]*sql.Stmt
	calls chan *call
	stop  chan struct{}
	ended chan struct{}

	once     sync.Once
	closeErr error

	waiting []*call // takes, in the order they came
	seen    int64   // the data_version of the file
}

func newWriter(ctx context.Context, conn *sql.Conn, log *slog.Logger) (*writer, error) {
	w := &writer{
		conn: conn, log: log, stmts: make(map[string]*sql.Stmt), calls: make(chan *call, maxCommit),
		stop: make(chan struct{}), ended: make(chan struct{}),
	}
	if _, err := w.changed(ctx); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// close stops the goroutine, waits for it and closes the connection.
func (w *writer) close() error {
	w.once.Do(func() {
		close(w.stop)
		<-w.ended
		for _, s := range w.stmts {
			w.closeErr = errors.Join(w.closeErr, s.Close())
		}
		w.closeErr = errors.Join(w.closeErr, w.conn.Close())
	})
	return w.closeErr
}

// call has the writer do something and blocks until that is committed. If ctx ends before the
// writer begins, nothing was done.
func (w *writer) call(ctx context.Context, do func(t *tx) error) error {
	return w.take(ctx, nil, nil, do)
}

// take is call for a take of queues, which waits until they have a run. It returns errLeft if
// left is closed before.
func (w *writer) take(ctx context.Context, queues []string, left <-chan struct{}, do func(t *tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{do: do, queues: queues, err: make(chan error, 1)}
	select {
	case w.calls <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.stop:
		return broker.ErrClosed
	}
	select {
	case err := <-c.err:
		return err
	case <-ctx.Done():
		return c.withdraw(ctx.Err())
	case <-left:
		return c.withdraw(errLeft)
	case <-w.ended:
		select {
		case err := <-c.err:
			return err
		default:
			return broker.ErrClosed
		}
	}
}

// withdraw ends a call and returns the reason. If the writer works on the call, withdraw waits
// for the transaction, and returns its error if that ends the call.
func (c *call) withdraw(reason error) error {
	for !c.state.CompareAndSwap(offered, withdrawn) {
		select {
		case err := <-c.err:
			return err
		case <-time.After(time.Millisecond): // a take that found nothing is offered again
		}
	}
	return reason
}

func (w *writer) run() {
	defer close(w.ended)
	look := time.NewTicker(poll)
	look.Stop()
	defer look.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	for {
		var calls []*call
		everything := false // is to be tried, whoever wrote
		select {
		case <-w.stop:
			return
		case c := <-w.calls:
			calls = w.more(c)
		case <-due.C:
			everything = true
		case <-look.C:
			changed, err := w.changed(context.Background())
			if err == nil && !changed && !w.anyWithdrawn() {
				continue
			}
			everything = true
		}
		w.serve(calls, everything)
		w.dropWithdrawn()
		if len(w.waiting) == 0 {
			look.Stop()
			due.Stop()
			continue
		}
		if len(calls) > 0 || everything {
			look.Reset(poll)
			due.Reset(w.untilDue())
		}
	}
}

// more returns the call and those that came with it, without those withdrawn.
func (w *writer) more(first *call) []*call {
	calls := []*call{first}
	for len(calls) < maxCommit {
		select {
		case c := <-w.calls:
			calls = append(calls, c)
			continue
		default:
		}
		break
	}
	return slices.DeleteFunc(calls, func(c *call) bool { return !c.state.CompareAndSwap(offered, claimed) })
}

// changed reports whether another connection has written since it was asked last.
func (w *writer) changed(ctx context.Context) (bool, error) {
	var now int64
	if err := w.conn.QueryRowContext(ctx, "PRAGMA data_version").Scan(&now); err != nil {
		return false, explain(err)
	}
	before := w.seen
	w.seen = now
	return now != before, nil
}

func (w *writer) anyWithdrawn() bool {
	return slices.ContainsFunc(w.waiting, func(c *call) bool { return c.state.Load() == withdrawn })
}

func (w *writer) dropWithdrawn() {
	w.waiting = slices.DeleteFunc(w.waiting, func(c *call) bool { return c.state.Load() == withdrawn })
}

// serve does the calls in one transaction, and after them the takes that wait for what they
// wrote. If everything is set, it tries all takes that wait.
func (w *writer) serve(calls []*call, everything bool) {
	var takes, others []*call
	for _, c := range calls {
		if c.queues == nil {
			others = append(others, c)
		} else {
			takes = append(takes, c)
		}
	}
	if len(others) == 0 && !w.anyDue(takes, everything) {
		w.wait(takes)
		return
	}
	t := &tx{w: w, now: time.Now().UnixNano(), lengths: make(map[string]int64), woken: make(map[string]bool)}
	t.begin()
	results := make([]error, len(others))
	for i, c := range others {
		results[i] = t.do(c)
	}
	tried := w.claimWaiting(func(c *call) bool {
		return everything || slices.ContainsFunc(c.queues, func(q string) bool { return t.woken[q] })
	})
	tried = append(tried, takes...)
	taken := make([]error, len(tried))
	for i, c := range tried {
		taken[i] = t.do(c)
	}
	err := t.commit()
	for i, c := range others {
		c.finish(results[i], err)
	}
	var nothing []*call
	for i, c := range tried {
		if err == nil && errors.Is(taken[i], errNothing) {
			nothing = append(nothing, c)
			continue
		}
		c.finish(taken[i], err)
	}
	w.wait(nothing)
}

// finish ends a call with its own error, or that of its transaction.
func (c *call) finish(own, all error) {
	if all != nil {
		own = all
	}
	c.err <- own
}

// claimWaiting removes the waiting takes that match and were not withdrawn.
func (w *writer) claimWaiting(match func(c *call) bool) (claimedOnes []*call) {
	kept := w.waiting[:0]
	for _, c := range w.waiting {
		switch {
		case !match(c):
			kept = append(kept, c)
		case c.state.CompareAndSwap(offered, claimed):
			claimedOnes = append(claimedOnes, c)
		}
	}
	clear(w.waiting[len(kept):])
	w.waiting = kept
	return claimedOnes
}

// wait lets takes wait that found nothing.
func (w *writer) wait(takes []*call) {
	for _, c := range takes {
		c.state.Store(offered)
		w.waiting = append(w.waiting, c)
	}
}

// anyDue reports whether a transaction may find a run for a take, so that takes of empty
// queues do not lock the file. After an error it returns true: the transaction returns it.
func (w *writer) anyDue(takes []*call, everything bool) bool {
	if everything {
		takes = slices.Concat(takes, w.waiting)
	}
	asked := make(map[string]bool)
	for _, c := range takes {
		for _, queue := range c.queues {
			if asked[queue] {
				continue
			}
			asked[queue] = true
			var there bool
			err := w.row(`SELECT EXISTS (SELECT 1 FROM taskgen_runs WHERE state = 1 AND queue = ?1)
				OR EXISTS (SELECT 1 FROM taskgen_runs WHERE state = 0 AND queue = ?1 AND place <= ?2)`,
				[]any{queue, time.Now().UnixNano()}, &there)
			if err != nil || there {
				return true
			}
		}
	}
	return false
}

// untilDue returns how long it is until a delayed run is due that a waiting take takes, an
// hour if there is none.
func (w *writer) untilDue() time.Duration {
	const longest = time.Hour
	asked, first := make(map[string]bool), int64(0)
	for _, c := range w.waiting {
		for _, queue := range c.queues {
			if asked[queue] {
				continue
			}
			asked[queue] = true
			var at sql.NullInt64
			if err := w.row("SELECT min(place) FROM taskgen_runs WHERE state = 0 AND queue = ?", []any{queue}, &at); err != nil {
				return poll // to ask again
			}
			if at.Valid && (first == 0 || at.Int64 < first) {
				first = at.Int64
			}
		}
	}
	if first == 0 {
		return longest
	}
	return min(max(time.Until(time.Unix(0, first)), 0), longest)
}

// stmt returns the prepared statement of a text.
func (w *writer) stmt(text string) (*sql.Stmt, error) {
	if s := w.stmts[text]; s != nil {
		return s, nil
	}
	s, err := w.conn.PrepareContext(context.Background(), text)
	if err != nil {
		return nil, explain(err)
	}
	w.stmts[text] = s
	return s, nil
}

// row reads one row.
func (w *writer) row(text string, args []any, into ...any) error {
	s, err := w.stmt(text)
	if err != nil {
		return err
	}
	return explain(s.QueryRow(args...).Scan(into...))
}
