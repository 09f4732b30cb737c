package main_test

import (
	"bufio"
	"bytes"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
)

// binary is the program, compiled once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "quickstart")
	if err != nil {
		log.Fatal(err)
	}
	binary = filepath.Join(dir, "quickstart")
	code := 1
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".").CombinedOutput(); err != nil {
		log.Printf("build quickstart: %v\n%s", err, out)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "QUICKSTART_DIR="+dir, "TASKGEN_BROKER=")
	return cmd
}

var (
	pidOf        = regexp.MustCompile(`\bpid=(\d+)`)
	calculatedOf = regexp.MustCompile(`msg=calculated .* document=(\S+) .* pid=(\d+)`)
	tickOf       = regexp.MustCompile(`msg=OK .* tick=(\d+) pid=(\d+)`)
)

// requireComplete checks what a run from beginning to end has printed.
func requireComplete(t *testing.T, out string) {
	t.Helper()
	documents, err := filepath.Glob("testdata/*.txt")
	require.NoError(t, err)
	pids, children, calculated := map[string]bool{}, map[string]bool{}, map[string]int{}
	for line := range strings.Lines(out) {
		pid := pidOf.FindAllStringSubmatch(line, -1)
		require.Len(t, pid, 1, "each line names its process: %s", line)
		pids[pid[0][1]] = true
		if m := calculatedOf.FindStringSubmatch(line); m != nil {
			calculated[m[1]]++
			children[m[2]] = true
		}
	}
	require.Len(t, children, 2, "two child processes calculate:\n%s", out)
	require.Len(t, pids, 3, "and one parent does the rest:\n%s", out)
	require.Len(t, calculated, len(documents))
	for document, n := range calculated {
		require.Equal(t, 1, n, "%s is calculated once", document)
	}
	require.GreaterOrEqual(t, len(tickOf.FindAllString(out, -1)), 2, out)
	require.Regexp(t, `(?m)^pid=\d+ done: 10 documents, \d+ words, \d+ ticks$`, out)
}

func TestEmbedded(t *testing.T) {
	out, err := command(t.TempDir()).CombinedOutput()
	require.NoError(t, err, string(out))
	requireComplete(t, string(out))
}

func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	out, err := command(t.TempDir(), "-broker", server.URL()).CombinedOutput()
	require.NoError(t, err, string(out))
	requireComplete(t, string(out))
}

func TestKilledOnRedisItGoesOnWhereItWas(t *testing.T) {
	server := redistest.Start(t)
	dir := t.TempDir()
	first := command(dir, "-broker", server.URL())
	stdout, err := first.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, first.Start())
	before := 0
	for lines := bufio.NewScanner(stdout); before < 3 && lines.Scan(); {
		if calculatedOf.MatchString(lines.Text()) {
			before++
		}
	}
	require.NoError(t, first.Process.Kill())
	require.Error(t, first.Wait())
	require.Equal(t, 3, before, "killed in the middle")

	var out bytes.Buffer
	second := command(dir, "-broker", server.URL())
	second.Stdout, second.Stderr = &out, &out
	require.NoError(t, second.Run(), out.String())
	require.Regexp(t, `(?m)^pid=\d+ done: 10 documents, \d+ words, \d+ ticks$`, out.String())
	again := map[string]bool{} // on a slow machine a run can be recovered and executed twice
	for _, line := range calculatedOf.FindAllStringSubmatch(out.String(), -1) {
		again[line[1]] = true
	}
	require.Less(t, len(again), 10, "what was done is not done again:\n%s", out.String())
}
