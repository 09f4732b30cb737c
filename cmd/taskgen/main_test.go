package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/imports"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		// taskgen on 1 February 2026, in this binary.
		"taskgen-then": func() {
			os.Exit(run(func() time.Time { return time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC) }))
		},
		// goimports of one file, in place.
		"goimports": func() {
			if err := goimports(os.Args[1]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		},
	})
}

func goimports(path string) error {
	formatted, err := imports.Process(path, nil, nil)
	if err != nil {
		return err
	}
	return os.WriteFile(path, formatted, 0o644)
}

// TestScripts runs the scenarios of testdata/taskgen with the real command. Each is a
// module that uses this one in place.
func TestScripts(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	cache := goEnv(t, "GOMODCACHE", "GOCACHE", "GOPROXY", "GOFLAGS", "GOPATH")
	bin := build(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join(root, "testdata", "taskgen"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "", // rewrites the files that cmp compares with
		Setup: func(env *testscript.Env) error {
			for name, value := range cache {
				env.Setenv(name, value)
			}
			// The flags of this run, so that the cache has what it has compiled. The race
			// detector is for scenarios with something to look for: programs that have it
			// take seconds longer to link.
			flags := strings.ReplaceAll(cache["GOFLAGS"], "-race", "")
			env.Setenv("GOFLAGS", "-mod=mod "+flags)
			env.Setenv("FLAGS", flags) // for scenarios with flags of their own
			if flags != cache["GOFLAGS"] {
				env.Setenv("RACE", "-race")
			}
			env.Setenv("GOTOOLCHAIN", "local")
			env.Setenv("GOWORK", "off")
			env.Setenv("TASKGEN_ROOT", root)
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			return module(env.WorkDir, root, sum)
		},
	})
}

// build builds the command and returns its directory. It is built without the race
// detector, with which each of its more than a hundred runs takes four times as long.
func build(t *testing.T) (dir string) {
	dir = t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-ldflags=-s -w", "-o", dir+string(filepath.Separator), ".")
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.ReplaceAll(os.Getenv("GOFLAGS"), "-race", ""))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return dir
}

// module makes the scenario's directory a module, unless it brings its own.
func module(dir, root string, sum []byte) error {
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644); err != nil {
		return err
	}
	mod := filepath.Join(dir, "go.mod")
	if _, err := os.Stat(mod); err == nil {
		return nil
	}
	return os.WriteFile(mod, []byte(strings.Join([]string{
		"module example.com/app",
		"go 1.26.0",
		"require github.com/taskgen/taskgen v0.0.0",
		"require github.com/vmihailenco/msgpack/v5 v5.4.1",
		"require github.com/vmihailenco/tagparser/v2 v2.0.0",
		"replace github.com/taskgen/taskgen => " + root,
		"",
	}, "\n")), 0o644)
}

// goEnv asks the go command for what it would use here, as the scripts run with
// another home directory.
func goEnv(t *testing.T, names ...string) map[string]string {
	out, err := exec.CommandContext(t.Context(), "go", append([]string{"env"}, names...)...).Output()
	require.NoError(t, err)
	values := map[string]string{}
	lines := strings.Split(string(out), "\n")
	for i, name := range names {
		values[name] = lines[i]
	}
	return values
}
