//go:build unix

package scan_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/scan"
)

// TestOnlyRegularFilesAreRead makes Go files of pipes, sockets and devices.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	t.Parallel()
	pipe := func(t *testing.T, path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) }
	link := func(to string) func(*testing.T, string) {
		return func(t *testing.T, path string) { require.NoError(t, os.Symlink(to, path)) }
	}
	for name, c := range map[string]struct {
		path, pattern string
		make          func(*testing.T, string)
		refused       string
	}{
		"the output":                  {"a/tasks_gen.go", "./a", pipe, "read source: a/tasks_gen.go is a named pipe, not a regular file; move it away"},
		"a source":                    {"a/more.go", "./a", pipe, "a/more.go is a named pipe"},
		"a test":                      {"a/a_test.go", "./a", pipe, "a/a_test.go is a named pipe"},
		"by a pattern":                {"a/tasks_gen.go", "./...", pipe, "a/tasks_gen.go is a named pipe"},
		"by an import path":           {"a/tasks_gen.go", "example.com/m/a", pipe, "a/tasks_gen.go is a named pipe"},
		"of an imported package":      {"b/tasks_gen.go", "./a", pipe, "b/tasks_gen.go is a named pipe"},
		"below a folder go passes by": {"a/testdata/in/x.go", "./a/testdata/in", pipe, "a/testdata/in/x.go is a named pipe"},
		"a link to a device":          {"a/tasks_gen.go", "./a", link(os.DevNull), "a/tasks_gen.go is a device"},
		"a socket": {"a/tasks_gen.go", "./a", func(t *testing.T, path string) {
			dir, err := os.MkdirTemp("", "s") // the paths of sockets are short
			require.NoError(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			l, err := net.Listen("unix", filepath.Join(dir, "s"))
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
			link(filepath.Join(dir, "s"))(t, path)
		}, "a/tasks_gen.go is a socket"},
		"a link to a source":    {"a/more.go", "./a", link("../b/more.txt"), ""},
		"what go does not read": {"a/_more.go", "./a", pipe, ""},
		"no Go file":            {"a/more.txt", "./a", pipe, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for path, text := range map[string]string{
				"go.mod":     "module example.com/m\n\ngo 1.26.0\n",
				"a/a.go":     "package a\n\nimport (\n\t\"context\"\n\n\t\"example.com/m/b\"\n)\n\n//task:io\nfunc F(ctx context.Context, x b.T) error { return nil }\n",
				"b/b.go":     "package b\n\ntype T struct{ N int }\n",
				"b/more.txt": "package a\n",
			} {
				path = filepath.Join(dir, path)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
				require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
			}
			path := filepath.Join(dir, c.path)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			c.make(t, path)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			type answer struct {
				problems []scan.Problem
				err      error
			}
			done := make(chan answer, 1)
			go func() {
				_, problems, err := scan.Scan(ctx, scan.Config{Dir: dir, Patterns: []string{c.pattern}})
				done <- answer{problems, err}
			}()
			select {
			case got := <-done:
				if c.refused != "" {
					require.ErrorContains(t, got.err, c.refused)
					return
				}
				require.NoError(t, got.err)
				require.Empty(t, got.problems)
			case <-ctx.Done():
				t.Fatal("the scan hangs")
			}
		})
	}
}
