//go:build linux

package subprocess_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/subprocess"
)

func line(level, msg, task, stream string, pid int) map[string]any {
	return map[string]any{"level": level, "msg": msg, "run": "id-of-" + task, "task": task,
		"pid": float64(pid), "stream": stream}
}

func TestOutputIsLoggedByLineUnderItsRun(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	_, pid := run(t, pool, "print", "50")
	var out, err []map[string]any
	for _, rec := range s.records(t) { // all there when Run returns
		if rec["stream"] == "stdout" {
			out = append(out, rec)
		} else {
			err = append(err, rec)
		}
	}
	require.Len(t, out, 50)
	require.Len(t, err, 50)
	for i := range 50 {
		require.Equal(t, line("INFO", fmt.Sprintf("out %d", i), "print", "stdout", pid), out[i])
		require.Equal(t, line("WARN", fmt.Sprintf("err %d", i), "print", "stderr", pid), err[i])
	}
}

func TestALineEndsWithItsRun(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	var want []map[string]any
	for i := range 200 {
		text := fmt.Sprintf("no newline %d", i)
		_, pid := run(t, pool, "partial", text)
		want = append(want, line("INFO", text, "partial", "stdout", pid))
		run(t, pool, "print", "1")
	}
	var got []map[string]any
	for _, rec := range s.records(t) {
		if rec["task"] == "partial" {
			got = append(got, rec)
		} else {
			require.Equal(t, "print", rec["task"])
		}
	}
	require.Equal(t, want, got)
}

// hunter hides a secret.
type hunter struct{}

func (hunter) Hide(line string, _ bool) string { return strings.ReplaceAll(line, "hunter22", "***") }

func TestLinesThatARunLeftBehindShowItsSecretsNoMore(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	secret := request("echo", "")
	secret.Hide = func(before subprocess.Hider) subprocess.Hider {
		require.Nil(t, before)
		return hunter{}
	}
	resp, err := pool.Run(t.Context(), secret)
	require.NoError(t, err)
	_, pid := run(t, pool, "partial", "hunter22, late")
	require.Equal(t, pid, resp.PID)
	require.Equal(t, []map[string]any{line("INFO", "***, late", "partial", "stdout", pid)}, s.records(t))
}

func TestLongLinesAreCut(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	got, pid := run(t, pool, "big", "20000000")
	require.Equal(t, strings.Repeat("y", 1000), got)
	recs := s.records(t)
	require.Len(t, recs, 2)
	want := line("INFO", strings.Repeat("x", 64<<10), "big", "stdout", pid)
	want["bytes_cut"] = float64(20000000 - 64<<10)
	require.Equal(t, want, recs[0])
	require.Equal(t, line("INFO", "after", "big", "stdout", pid), recs[1])
}

func TestTheOutputOfARunIsBounded(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	for range 2 {
		run(t, pool, "lines", "320")
	}
	logged, cut := 0, 0
	for _, rec := range s.records(t) {
		switch rec["msg"] {
		case "the run wrote more than is logged":
			cut++
			require.EqualValues(t, (320-16<<20/60_000)*60_000, rec["bytes_cut"])
		case strings.Repeat("x", 60_000):
			logged++
		}
	}
	require.Equal(t, 2*(16<<20/60_000), logged)
	require.Equal(t, 2, cut)
}

// tally counts records by their message, and keeps the last of each.
type tally struct {
	mu   sync.Mutex
	n    map[string]int
	last map[string]slog.Record
}

func (c *tally) Enabled(context.Context, slog.Level) bool { return true }
func (c *tally) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *tally) WithGroup(string) slog.Handler            { return c }
func (c *tally) Handle(_ context.Context, rec slog.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[rec.Message]++
	c.last[rec.Message] = rec
	return nil
}

// attrs returns the attributes of the last record with a message.
func (c *tally) attrs(message string) map[string]any {
	all := map[string]any{}
	c.last[message].Attrs(func(a slog.Attr) bool { all[a.Key] = a.Value.Any(); return true })
	return all
}

func TestShortLinesAndRecordsCountForWhatTheyCost(t *testing.T) {
	const most, some = 16 << 20 / 128, 50_000
	for _, c := range []struct{ task, message, cut, count string }{
		{"newlines", "", "the run wrote more than is logged", "lines_cut"},
		{"records", "one of many", "the run logged more records than are kept", "records_cut"},
	} {
		t.Run(c.task, func(t *testing.T) {
			log := &tally{n: map[string]int{}, last: map[string]slog.Record{}}
			pool := newPool(t, subprocess.Config{Processes: 1, Logger: slog.New(log)})
			_, pid := run(t, pool, c.task, strconv.Itoa(most+some))
			require.LessOrEqual(t, log.n[c.message], most)
			require.Equal(t, 1, log.n[c.cut])
			said := log.attrs(c.cut)
			require.EqualValues(t, most+some-log.n[c.message], said[c.count])
			require.EqualValues(t, pid, said["pid"])
			require.Equal(t, "id-of-"+c.task, said["run"])
			require.Equal(t, c.task, said["task"])
			before := log.n[c.message]
			run(t, pool, c.task, "10")
			require.Equal(t, before+10, log.n[c.message], "the next run has its own")
		})
	}
}

func TestAChildThatClosedItsOutputIsNotUsedAgain(t *testing.T) {
	for _, stream := range []string{"1", "2"} {
		pool := newPool(t, subprocess.Config{Processes: 1})
		_, first := run(t, pool, "mute", stream)
		_, second := run(t, pool, "echo", "")
		require.NotEqual(t, first, second)
		_, third := run(t, pool, "echo", "")
		require.Equal(t, second, third)
		require.NoError(t, pool.Close(t.Context()))
	}
}

func TestTheLastLinesAreThoseOfTheRun(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	run(t, pool, "print", "5")
	require.Equal(t, "mine", exit(t, pool, t.Context(), "exit", "3 mine").Stderr)
	many := exit(t, pool, t.Context(), "exit", "3 "+strings.Repeat("line\n", 30)+"end").Stderr
	require.Equal(t, strings.Repeat("line\n", 19)+"end", many)
	crash := exit(t, pool, t.Context(), "exit", "3 panic: early\n"+strings.Repeat("stack\n", 30)+"end").Stderr
	require.Equal(t, "panic: early\n…\n"+strings.Repeat("stack\n", 17)+"end", crash)
	wide := exit(t, pool, t.Context(), "exit", "3 panic: early\n"+strings.Repeat(strings.Repeat("w", 3000)+"\n", 5)+"end").Stderr
	require.LessOrEqual(t, len(wide), 8<<10)
	require.True(t, strings.HasPrefix(wide, "panic: early\n…\n"), wide)
}

func TestWhatIsLeftOfACrashNamesTheFunction(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	for _, c := range []struct{ task, first, function string }{
		{"overflow", "fatal error: stack overflow\n…\ngoroutine ", "subprocess_test.recurse("},
		{"abort", "SIGABRT: abort\n", "subprocess_test.abortSlowly("},
		{"panic", "panic: no such luck\n", "subprocess_test.panicHere("},
		{"panics", "panic: somewhere else\n", "subprocess_test.panicElsewhere"},
	} {
		t.Run(c.task, func(t *testing.T) {
			ended := exit(t, pool, t.Context(), c.task, "")
			require.Contains(t, ended.Detail(), c.first)
			require.Contains(t, ended.Detail(), c.function)
			require.LessOrEqual(t, len(ended.Stderr), 16<<10)
		})
	}
	ended := exit(t, pool, t.Context(), "overflow", "")
	require.Contains(t, ended.Stderr, "subprocess_test.overflow(", "where the recursion began")
	// Many lines after it do not displace it.
	report := "fatal error: early\n\nruntime stack:\nruntime.throw(x)\n\ngoroutine 7 [running]:\nmain.culprit(...)\n\tmain.go:7\n\n" +
		strings.Repeat("goroutine 8 [idle]:\nmain.other(...)\n\tmain.go:8\n\n", 40) +
		"goroutine 9 [running]:\nmain.task(...)\n\tmain.go:9\ngithub.com/taskgen/taskgen/internal/subprocess.(*server).execute(0x1)\n\n" +
		strings.Repeat("register\n", 40) + "end"
	require.Equal(t, "fatal error: early\n…\ngoroutine 7 [running]:\nmain.culprit(...)\n\tmain.go:7\n…\n"+
		"goroutine 9 [running]:\nmain.task(...)\n\tmain.go:9\ngithub.com/taskgen/taskgen/internal/subprocess.(*server).execute(0x1)\n…\n"+
		strings.Repeat("register\n", 17)+"end", exit(t, pool, t.Context(), "exit", "3 "+report).Stderr)
}

func TestRecordsCrossAsRecords(t *testing.T) {
	var buf bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: logger})
	_, pid := run(t, pool, "log", "")
	require.Equal(t, fmt.Sprintf(`level=WARN msg="all kinds" bool=true int=-3 uint=7 float=1.5 string="s`+"\uFFFD"+
		`" duration=1s at=1970-01-01T00:00:01.000Z error=bad valuer="logged x" group.a=1 group.inner.b=2 inline=3 pid=%d
level=INFO msg=derived with=1 g.x=2 g.y=3 pid=%d
`, pid, pid), buf.String())
}

func TestALargeRecordIsCut(t *testing.T) {
	var s sink
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger()})
	run(t, pool, "log", "10000000")
	recs := s.records(t)
	require.Len(t, recs, 1)
	require.Len(t, recs[0]["value"], 64<<10)
}

func double(_ context.Context, run *broker.TaskRun, method string, body []byte) ([]byte, error) {
	switch method {
	case "refuse":
		return nil, errors.New("not today")
	case "panic":
		panic("in the parent")
	case "task":
		return []byte(run.ID), nil
	}
	return fmt.Appendf(nil, "%s:%s%s", method, body, body), nil
}

func TestCallsAreMatched(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1, Call: double})
	got, _ := run(t, pool, "calls", "500")
	require.Equal(t, "all right", got)
	got, _ = run(t, pool, "call", "task")
	require.Equal(t, "id-of-call", got)
	got, _ = run(t, pool, "call", "nobody ")
	require.Equal(t, "nobody:", got)
	for method, want := range map[string]string{
		"refuse": "call parent process: refuse: not today",
		"panic":  "call parent process: panic: serving the call panicked: in the parent",
	} {
		resp, err := pool.Run(t.Context(), request("call", method))
		require.NoError(t, err)
		require.Equal(t, want, resp.Failure.Message)
	}
}

func TestCallsAreRefusedByDefault(t *testing.T) {
	pool := newPool(t, subprocess.Config{Processes: 1})
	resp, err := pool.Run(t.Context(), request("call", "any"))
	require.NoError(t, err)
	require.Equal(t, "call parent process: any: no calls are served", resp.Failure.Message)
}

func TestCallsEndWithTheRun(t *testing.T) {
	var s sink
	begun, ended := make(chan struct{}, 100), make(chan struct{}, 100)
	pool := newPool(t, subprocess.Config{Processes: 1, Logger: s.logger(),
		Call: func(ctx context.Context, _ *broker.TaskRun, method string, _ []byte) ([]byte, error) {
			if method != "block" {
				<-ended // the other call was given up
				return nil, nil
			}
			begun <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		}})
	for range 100 {
		got, _ := run(t, pool, "late", "")
		require.Equal(t, "left", got)
		require.Equal(t, len(begun), len(ended), "a call outlived its run")
		for range len(begun) {
			<-begun
			<-ended
		}
	}
	require.Empty(t, s.records(t), "records of runs that were over")
	got, _ := run(t, pool, "callshort", "")
	require.Equal(t, "gave up", got)
}

func TestTooManyCallsAtOnceAreRefused(t *testing.T) {
	var served atomic.Int64
	pool := newPool(t, subprocess.Config{Processes: 1,
		Call: func(ctx context.Context, _ *broker.TaskRun, _ string, _ []byte) ([]byte, error) {
			served.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	resp, err := pool.Run(t.Context(), request("calls", "1030"))
	require.NoError(t, err)
	require.Contains(t, resp.Failure.Message, "call parent process: double: more than 1024 calls at once")
	require.EqualValues(t, 1024, served.Load())
}
