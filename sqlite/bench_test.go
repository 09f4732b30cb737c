package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/sqlite"
)

func openBench(b *testing.B) *sqlite.Broker {
	o, err := sqlite.Open(context.Background(), "file:"+filepath.Join(b.TempDir(), "tasks.db"))
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, o.(*sqlite.Broker).Close()) })
	return o.(*sqlite.Broker)
}

func plain(i int64) *broker.TaskRun {
	return &broker.TaskRun{ID: fmt.Sprint("run-", i), Task: "task", Queue: "q", QueuedAt: time.Now(), Payload: make([]byte, 40)}
}

// spread calls fn with 0 to b.N-1 from so many goroutines.
func spread(b *testing.B, callers int, fn func(i int64) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range callers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}

func BenchmarkEnqueue(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			o := openBench(b)
			spread(b, callers, func(i int64) error { return o.QueueTasks(context.Background(), plain(i)) })
		})
	}
}

// BenchmarkBare inserts rows of about the size of a run in transactions of so many, with no
// index: what the disk and SQLite allow.
func BenchmarkBare(b *testing.B) {
	for _, size := range []int{1, 64} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			db, err := sql.Open("sqlite3", "file:"+filepath.Join(b.TempDir(), "bare.db")+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
			require.NoError(b, err)
			defer db.Close()
			_, err = db.Exec("CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)")
			require.NoError(b, err)
			insert, err := db.Prepare("INSERT INTO t (body) VALUES (?)")
			require.NoError(b, err)
			defer insert.Close()
			body := make([]byte, 100)
			b.ResetTimer()
			for done := 0; done < b.N; done += size {
				tx, err := db.Begin()
				require.NoError(b, err)
				in := tx.Stmt(insert)
				for range size {
					_, err := in.Exec(body)
					require.NoError(b, err)
				}
				require.NoError(b, tx.Commit())
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
		})
	}
}

// BenchmarkCycle queues, takes and finishes, 64 callers each.
func BenchmarkCycle(b *testing.B) {
	const callers = 64
	o, ctx := openBench(b), context.Background()
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	over, cancel := context.WithCancel(ctx)
	defer cancel()
	b.ResetTimer()
	for range 4 {
		s, err := o.OpenSession(ctx, time.Minute)
		require.NoError(b, err)
		wg.Go(func() {
			for {
				runs, err := s.Take(over, broker.Want{Queues: []string{"q"}, IO: callers})
				if err != nil {
					return
				}
				outcomes := make([]broker.Outcome, len(runs))
				for i, r := range runs {
					outcomes[i].Run = r
				}
				if _, err := s.Finish(ctx, outcomes...); err != nil {
					b.Error(err)
				}
				if left.Add(-int64(len(runs))) == 0 {
					cancel()
				}
			}
		})
	}
	var next atomic.Int64
	for range callers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(b.N); i = next.Add(1) - 1 {
				if err := o.QueueTasks(ctx, plain(i)); err != nil {
					b.Error(err)
					cancel()
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}

// BenchmarkDrain takes and finishes what was queued before.
func BenchmarkDrain(b *testing.B) {
	o, ctx := openBench(b), context.Background()
	for done := 0; done < b.N; {
		runs := make([]*broker.TaskRun, min(1000, b.N-done))
		for i := range runs {
			runs[i] = plain(int64(done + i))
		}
		require.NoError(b, o.QueueTasks(ctx, runs...))
		done += len(runs)
	}
	s, err := o.OpenSession(ctx, time.Minute)
	require.NoError(b, err)
	b.ResetTimer()
	for left := b.N; left > 0; {
		runs, err := s.Take(ctx, broker.Want{Queues: []string{"q"}, IO: 500})
		require.NoError(b, err)
		outcomes := make([]broker.Outcome, len(runs))
		for i, r := range runs {
			outcomes[i].Run = r
		}
		_, err = s.Finish(ctx, outcomes...)
		require.NoError(b, err)
		left -= len(runs)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}
