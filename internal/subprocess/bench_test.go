//go:build linux

package subprocess_test

import (
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/subprocess"
)

// BenchmarkDispatch is a run of a no-op in a warm child, beside the same
// number of bytes through pipes to a process that sends them back, and beside
// starting a process that does nothing.
func BenchmarkDispatch(b *testing.B) {
	b.Run("warm", func(b *testing.B) {
		pool := newPool(b, subprocess.Config{Processes: 1})
		req := request("echo", "payload")
		run(b, pool, "echo", "")
		for b.Loop() {
			if _, err := pool.Run(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("warm-two-children", func(b *testing.B) {
		pool := newPool(b, subprocess.Config{Processes: 2})
		req := request("echo", "payload")
		b.SetParallelism(2)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := pool.Run(b.Context(), req); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
	b.Run("raw-pipes", rawPipes)
	b.Run("start-process", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func rawPipes(b *testing.B) {
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
	frame := make([]byte, 64) // about what the no-op's are
	for b.Loop() {
		if _, err := in.Write(frame); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(out, frame); err != nil {
			b.Fatal(err)
		}
	}
}
