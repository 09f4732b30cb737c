//go:build !windows

package taskapp_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestASignalEndsACommandThatReadsAValue has commands read a value from a pipe that
// nobody ends.
func TestASignalEndsACommandThatReadsAValue(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"exec": syscall.SIGINT, "queue": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pipe := filepath.Join(t.TempDir(), "pipe")
			require.NoError(t, syscall.Mkfifo(pipe, 0o600))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], name, "recorder_record", "--note", "@"+pipe)
			cmd.Env = append(os.Environ(), appEnv+"=1")
			var said syncBuffer
			cmd.Stderr = &said
			require.NoError(t, cmd.Start())
			in, err := os.OpenFile(pipe, os.O_WRONLY, 0) // once the command has opened it
			require.NoError(t, err)
			defer in.Close()
			require.NoError(t, cmd.Process.Signal(signal))
			require.Error(t, cmd.Wait())
			require.NoError(t, ctx.Err(), "it was left to the test to kill it")
			require.True(t, cmd.ProcessState.Exited(), "%v", cmd.ProcessState)
			require.Contains(t, said.String(), "interrupted while it was read")
		})
	}
}

func TestStandardInputIsOneValue(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"the value of flag --pin: standard input is the value of another flag":           {"login", "--user", "@-", "--pin", "@-"},
		`invalid value "@-" for flag --b: standard input is the value of another flag (`: {"ratio", "--a", "@-", "--b", "@-"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"exec"}, args...)...)
		cmd.Env = append(os.Environ(), appEnv+"=1")
		cmd.Stdin = strings.NewReader("1\n")
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), want)
	}
}
