//go:build linux || darwin

package taskapp_test

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestServeGoesOnWithoutAReaderOfItsLog(t *testing.T) {
	for _, role := range []string{"--consume", "--schedule"} {
		t.Run(role, func(t *testing.T) {
			log, stderr, err := os.Pipe()
			require.NoError(t, err)
			cmd := exec.Command(os.Args[0], "serve", role, "--broker", "memory:")
			cmd.Env = append(os.Environ(), appEnv+"=1")
			cmd.Stdout, cmd.Stderr = stderr, stderr // as 2>&1 | head -1
			require.NoError(t, cmd.Start())
			require.NoError(t, stderr.Close())
			line, err := bufio.NewReader(log).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, "serving")
			require.NoError(t, log.Close())
			require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
			require.NoError(t, cmd.Wait(), "it stops as always, and says so to nobody")
		})
	}
}
