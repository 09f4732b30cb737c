package redis_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/redis"
)

// Times of a load: how long a consumer's lease lasts, and how long interrupted work may stand
// still. After the death of a master this is 3 to 8 s, in which the servers elect another; the
// limit leaves room for a machine that is busy with other tests.
const (
	loadLease = time.Second
	resumed   = 20 * time.Second
	drained   = 2 * time.Minute
)

// load is producers and consumers that work while a test breaks something, and what they
// know of each run.
type load struct {
	*testing.T
	b       *redis.Broker
	queues  []string
	stopped chan struct{} // closed when no more is to be produced
	ended   chan struct{} // closed when no more is to be consumed
	making  sync.WaitGroup
	working sync.WaitGroup
	lapsing atomic.Bool // a session was left to its lease's end

	mu       sync.Mutex
	fates    map[string]*fate
	accepted map[string]int // by queue
	finished map[string]int // by queue
	failures map[string]int // by what they say
}

// fate is what callers of the broker know of one run.
type fate struct {
	queue      string
	began      time.Time // when it was queued
	accepted   bool
	at         time.Time // when that was known
	starts     int
	deliveries int  // the highest number of a start
	finishes   int  // that were applied, by the replies
	unsure     bool // a finish returned an error, and may be applied
}

// startLoad starts four producers and two consumers.
func startLoad(t *testing.T, b *redis.Broker, queues ...string) *load {
	t.Helper()
	l := &load{
		T: t, b: b, queues: queues, stopped: make(chan struct{}), ended: make(chan struct{}),
		fates: map[string]*fate{}, accepted: map[string]int{}, finished: map[string]int{}, failures: map[string]int{},
	}
	for i := range 4 {
		l.making.Go(func() { l.produce(i) })
	}
	for range 2 {
		s := join(t, b, loadLease)
		l.working.Go(func() { l.consume(s) })
	}
	l.working.Go(l.recover)
	t.Cleanup(func() { // of a test that failed
		l.stop(l.stopped, &l.making)
		l.stop(l.ended, &l.working)
	})
	return l
}

func (l *load) stop(channel chan struct{}, goroutines *sync.WaitGroup) {
	select {
	case <-channel:
	default:
		close(channel)
	}
	goroutines.Wait()
}

// produce queues runs, every second one with an own id. It queues each once, and repeats
// no call that was refused or whose outcome is unknown.
func (l *load) produce(producer int) {
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for n := 0; ; n++ {
		select {
		case <-pace.C:
		case <-l.stopped:
			return
		}
		r := run(fmt.Sprintf("%d-%d", producer, n), l.queues[n%len(l.queues)])
		r.OwnID = n%2 == 0
		l.mu.Lock()
		f := &fate{queue: r.Queue, began: time.Now()}
		l.fates[r.ID] = f
		l.mu.Unlock()
		err := l.b.QueueTasks(context.Background(), r)
		l.mu.Lock()
		if err == nil {
			f.accepted, f.at = true, time.Now()
			l.accepted[r.Queue]++
		}
		l.mu.Unlock()
		l.note(err)
	}
}

// consume takes and finishes, as the runtime does: it renews on the side, and
// repeats a Finish that failed until its lease must have ended.
func (l *load) consume(s broker.Session) {
	renewing, stop := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(renewing)
		tick := time.NewTicker(loadLease / 4)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.note(s.Renew(context.Background()))
			case <-stop:
				return
			}
		}
	}()
	open := false // runs that it started and could not finish
	defer func() {
		close(stop)
		<-renewing
		if open { // to leave would give them back as if they had not started
			l.lapsing.Store(true)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), resumed)
		defer cancel()
		l.note(s.Close(ctx))
	}()
	for {
		select {
		case <-l.ended:
			return
		default:
		}
		open = !l.finish(s, l.take(s)) || open
	}
}

func (l *load) take(s broker.Session) []*broker.TaskRun {
	ctx, cancel := context.WithTimeout(context.Background(), loadLease/2)
	defer cancel()
	got, err := s.Take(ctx, broker.Want{Queues: l.queues, IO: 5})
	l.note(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range got {
		f := l.fates[r.ID]
		if f == nil {
			l.Errorf("run %s was never queued", r.ID)
			continue
		}
		f.starts++
		f.deliveries = max(f.deliveries, r.Deliveries)
	}
	return got
}

// finish reports false when it gave up.
func (l *load) finish(s broker.Session, got []*broker.TaskRun) bool {
	if len(got) == 0 {
		return true
	}
	for until := time.Now().Add(2 * loadLease); time.Now().Before(until); {
		ctx, cancel := context.WithTimeout(context.Background(), loadLease)
		done, err := s.Finish(ctx, succeeded(got)...)
		cancel()
		l.note(err)
		l.mu.Lock()
		for _, r := range got {
			switch f := l.fates[r.ID]; {
			case f == nil: // which is an error already
			case err != nil:
				f.unsure = true
			case !slices.Contains(done.Fenced, r):
				f.finishes++
				l.finished[r.Queue]++
			}
		}
		l.mu.Unlock()
		if err == nil {
			return true
		}
	}
	return false
}

// recover gives back the runs of sessions that are dead or cut off.
func (l *load) recover() {
	tick := time.NewTicker(loadLease / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			ctx, cancel := context.WithTimeout(context.Background(), loadLease)
			_, err := l.b.Recover(ctx, l.queues)
			cancel()
			l.note(err)
		case <-l.ended:
			return
		}
	}
}

// note counts a failure by its text, without the addresses in it.
func (l *load) note(err error) {
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	words := strings.Fields(err.Error())
	for i, w := range words {
		if strings.Contains(w, "127.0.0.1:") {
			words[i] = "…"
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures[strings.Join(words, " ")]++
}

// sum is how many there are in the queues, all if none is named.
func (l *load) sum(counts map[string]int, queues ...string) (n int) {
	if len(queues) == 0 {
		queues = l.queues
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, queue := range queues {
		n += counts[queue]
	}
	return n
}

// goesOn waits until n more runs of the queues, or of any, were accepted, and n
// more were finished, and returns how long it took.
func (l *load) goesOn(n int, queues ...string) time.Duration {
	l.Helper()
	start := time.Now()
	accepted, finished := l.sum(l.accepted, queues...), l.sum(l.finished, queues...)
	l.await(fmt.Sprintf("work in %v goes on", queues), func() bool {
		return l.sum(l.accepted, queues...) >= accepted+n && l.sum(l.finished, queues...) >= finished+n
	})
	return time.Since(start)
}

// await waits until the condition holds, or fails the test.
func (l *load) await(what string, condition func() bool) {
	l.Helper()
	deadline, tick := time.NewTimer(drained), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			l.Fatalf("waited %v until %s; failures: %v", drained, what, l.failuresByText())
		}
	}
}

// failuresByText is how often calls failed, by their errors.
func (l *load) failuresByText() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.failures)
}

// failed is how many calls failed.
func (l *load) failed() (n int) {
	for _, times := range l.failuresByText() {
		n += times
	}
	return n
}

// drain stops the producers, waits until the consumers have taken all runs, stops these,
// and finishes the runs that they gave back.
func (l *load) drain() {
	l.Helper()
	l.stop(l.stopped, &l.making)
	l.await("it drains", func() bool {
		recovered, err := l.b.Recover(context.Background(), l.queues)
		return err == nil && recovered.Runs == 0 && l.waiting() == 0
	})
	l.stop(l.ended, &l.working)
	last := join(l, l.b, loadLease)
	l.await("it is empty", func() bool {
		recovered, err := l.b.Recover(context.Background(), l.queues)
		if err != nil || recovered.Runs == 0 && l.waiting() == 0 {
			return err == nil && (!l.lapsing.Load() || l.noneLeft())
		}
		l.finish(last, l.take(last))
		return false
	})
	l.note(last.Close(context.Background()))
	l.mu.Lock()
	defer l.mu.Unlock()
	accepted, finished := 0, 0
	for _, f := range l.fates {
		finished += min(f.finishes, 1)
		if f.accepted {
			accepted++
		}
	}
	l.Logf("%d tried, %d accepted, %d known to be finished", len(l.fates), accepted, finished)
	for text, n := range l.failures {
		l.Logf("%5d times: %s", n, text)
	}
}

// noneLeft reports whether nothing waits or is in flight, as the auditor sees it.
func (l *load) noneLeft() bool {
	for _, queue := range l.queues {
		report, err := l.b.Audit(context.Background(), queue, false)
		if err != nil || report.Runs > 0 {
			l.note(err)
			return false
		}
	}
	return true
}

// waiting is how many runs are queued, -1 if that cannot be read.
func (l *load) waiting() int {
	lengths, err := l.b.QueueLength(context.Background())
	if err != nil {
		return -1
	}
	total := 0
	for _, n := range lengths {
		total += int(n)
	}
	return total
}

// wrong returns the accepted runs that were never started, or that are gone for no known
// reason, and those that were finished more than once.
func (l *load) wrong() (lost, repeated []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, f := range l.fates {
		if f.accepted && (f.starts == 0 || f.finishes == 0 && !f.unsure) {
			lost = append(lost, id)
		}
		if f.finishes > 1 {
			repeated = append(repeated, id)
		}
	}
	return lost, repeated
}

// requireWhole checks that nothing was lost or finished twice, and that each
// start was a delivery of its own.
func (l *load) requireWhole() {
	l.Helper()
	lost, repeated := l.wrong()
	require.Empty(l, lost, "accepted, but never started or never finished")
	require.Empty(l, repeated, "finished more than once")
	for id, f := range l.fates {
		require.LessOrEqual(l, f.starts, f.deliveries, "starts of run %s, by its deliveries", id)
	}
}
