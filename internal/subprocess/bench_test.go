//go:build linux

package subprocess_test

import (
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// rawFrame is about the size of a no-op's frames in bytes.
const rawFrame = 64

// BenchmarkDispatch compares runs of a no-op in a warm child with sending as many
// bytes through pipes to an echo process, and with starting a process that does
// nothing. They take turns, so that noise affects all of them, and the median counts.
// An operation is one turn of each.
func BenchmarkDispatch(b *testing.B) {
	const each = 200
	pool := newPool(b, subprocess.Config{Processes: 1})
	req := request("echo", "payload")
	run(b, pool, "echo", "")
	echo := startEcho(b)
	var warm, raw, start []time.Duration
	for b.Loop() {
		raw = append(raw, timed(each, func() { echo.trip(b) }))
		warm = append(warm, timed(each, func() {
			if _, err := pool.Run(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}))
		start = append(start, timed(1, func() { require.NoError(b, exec.Command("/bin/true").Run()) }))
	}
	report(b, "raw", raw)
	report(b, "warm", warm)
	report(b, "start", start)
	b.ReportMetric(float64(median(warm))/float64(median(raw)), "warm/raw")
	b.ReportMetric(float64(median(start))/float64(median(warm)), "start/warm")
}

// BenchmarkTwoChildren does the same with two of each at once.
func BenchmarkTwoChildren(b *testing.B) {
	const each = 400
	pool := newPool(b, subprocess.Config{Processes: 2})
	req := request("echo", "payload")
	echoes := []*echoProcess{startEcho(b), startEcho(b)}
	both := func(f func(i int)) time.Duration {
		return timed(1, func() {
			var two sync.WaitGroup
			for i := range 2 {
				two.Go(func() {
					for range each {
						f(i)
					}
				})
			}
			two.Wait()
		}) / (2 * each)
	}
	work := func(int) {
		if _, err := pool.Run(b.Context(), req); err != nil {
			b.Error(err)
		}
	}
	both(work)
	var warm, raw []time.Duration
	for b.Loop() {
		raw = append(raw, both(func(i int) { echoes[i].trip(b) }))
		warm = append(warm, both(work))
	}
	b.ReportMetric(float64(time.Second/median(raw)), "raw/s")
	b.ReportMetric(float64(time.Second/median(warm)), "warm/s")
	b.ReportMetric(float64(median(warm))/float64(median(raw)), "warm/raw")
}

func timed(n int, f func()) time.Duration {
	start := time.Now()
	for range n {
		f()
	}
	return time.Since(start) / time.Duration(n)
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}

func report(b *testing.B, what string, d []time.Duration) {
	b.ReportMetric(float64(median(d)), what+"-ns")
}

// echoProcess echoes its input.
type echoProcess struct {
	in    io.Writer
	out   io.Reader
	frame [rawFrame]byte
}

func startEcho(b *testing.B) *echoProcess {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"=echo")
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		require.NoError(b, in.Close())
		require.NoError(b, cmd.Wait())
	})
	return &echoProcess{in: in, out: out}
}

func (e *echoProcess) trip(b *testing.B) {
	if _, err := e.in.Write(e.frame[:]); err != nil {
		b.Error(err)
	}
	if _, err := io.ReadFull(e.out, e.frame[:]); err != nil {
		b.Error(err)
	}
}
