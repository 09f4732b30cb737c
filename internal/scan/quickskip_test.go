package scan_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/scan"
)

func TestQuickSkip(t *testing.T) {
	const plain, output = "package p\n\n// A task: it is none.\nfunc F() {}\n", scan.Header + "\n\npackage p\n"
	for _, c := range []struct {
		name     string
		files    map[string]string
		patterns []string
		want     bool
	}{
		{"no directive", map[string]string{"a.go": plain}, nil, true},
		{"no directive below", map[string]string{"a.go": plain, "b/b.go": plain}, []string{"./..."}, true},
		{"two folders", map[string]string{"a/a.go": plain, "b/b.go": plain}, []string{"./a", "./b"}, true},
		{"a directive", map[string]string{"a.go": plain, "b.go": "package p\n\n//task:io\nfunc G() {}\n"}, nil, false},
		{"a near miss", map[string]string{"a.go": "package p\n\n// Task: io\nfunc G() {}\n"}, nil, false},
		{"in a test", map[string]string{"a.go": plain, "a_test.go": "package p\n\n//task:io\nfunc G() {}\n"}, nil, false},
		{"behind a constraint", map[string]string{"a.go": plain, "b.go": "//go:build never\n\npackage p\n\n//task:io\nfunc G() {}\n"}, nil, false},
		{"below", map[string]string{"a.go": plain, "b/c/b.go": "package p\n\n//task:io\nfunc G() {}\n"}, []string{"./..."}, false},
		{"below, not asked for", map[string]string{"a.go": plain, "b/b.go": "package p\n\n//task:io\nfunc G() {}\n"}, []string{"."}, true},
		{"one of two", map[string]string{"a/a.go": plain, "b/b.go": "package p\n\n//task:io\nfunc G() {}\n"}, []string{"./a", "./b"}, false},
		{"an output whose tasks are gone", map[string]string{"a.go": plain, "tasks_gen.go": output}, nil, false},
		{"a file of that name by hand", map[string]string{"a.go": plain, "tasks_gen.go": plain}, nil, true},
		{"passed over", map[string]string{"a.go": plain, "testdata/t.go": "//task:io\n", "_x/x.go": "//task:io\n", ".y/y.go": "//task:io\n"}, []string{"./..."}, true},
		{"another module", map[string]string{"a.go": plain, "b/go.mod": "module b\n", "b/b.go": "//task:io\n"}, []string{"./..."}, true},
		{"no Go files", map[string]string{"a.txt": plain}, nil, false},
		{"no such folder", map[string]string{"a.go": plain}, []string{"./nope"}, false},
		{"an import path", map[string]string{"a.go": plain}, []string{"example.com/a"}, false},
		{"a pattern inside", map[string]string{"a/b.go": plain}, []string{"./.../b"}, false},
		{"everything", map[string]string{"a.go": plain}, []string{"all"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.files["go.mod"] = "module example.com/a\n"
			for name, content := range c.files {
				path := filepath.Join(dir, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
				require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
			}
			require.Equal(t, c.want, scan.QuickSkip(scan.Config{Dir: dir, Patterns: c.patterns}))
			require.NoError(t, os.Remove(filepath.Join(dir, "go.mod")))
			require.False(t, scan.QuickSkip(scan.Config{Dir: dir, Patterns: c.patterns}), "outside of any module")
		})
	}
}
