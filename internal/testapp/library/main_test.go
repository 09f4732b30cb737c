//go:build linux || darwin

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "library")
	out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}

func TestTheReaderOfTheLogGoesAwayAndTheWorkGoesOn(t *testing.T) {
	binary := build(t)
	for _, role := range []string{"consume", "schedule"} {
		t.Run(role, func(t *testing.T) {
			var out strings.Builder
			cmd := exec.Command(binary, role)
			cmd.Stdout = &out
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			log, stderr, err := os.Pipe()
			require.NoError(t, err)
			cmd.Stderr = stderr
			require.NoError(t, cmd.Start())
			require.NoError(t, stderr.Close())
			_, err = bufio.NewReader(log).ReadString('\n')
			require.NoError(t, err)
			require.NoError(t, log.Close())
			require.NoError(t, stdin.Close())
			require.NoError(t, cmd.Wait())
			require.Equal(t, "stopped\n", out.String())
		})
	}
}
