//go:build !windows

package skew_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/internal/taskgen"
	"github.com/taskgen/taskgen/internal/testapp/skew"
	v1 "github.com/taskgen/taskgen/internal/testapp/skew/v1"
	v2 "github.com/taskgen/taskgen/internal/testapp/skew/v2"
	taskrt "github.com/taskgen/taskgen/runtime"
	"github.com/taskgen/taskgen/runtime/taskapp"
)

// versionEnv makes this binary a build of the application: the one with the
// tasks of that version.
const versionEnv = "SKEW_VERSION"

func TestMain(m *testing.M) {
	switch os.Getenv(versionEnv) {
	case "v1":
		taskapp.Main(v1.Tasks())
	case "v2":
		taskapp.Main(v2.Tasks())
	}
	os.Exit(m.Run())
}

// queuers queue one run of each task of a version, by its stubs.
var queuers = map[string]func(ctx context.Context) map[string]func() (*taskrt.Handle[taskrt.None], error){
	"v1": func(ctx context.Context) map[string]func() (*taskrt.Handle[taskrt.None], error) {
		return map[string]func() (*taskrt.Handle[taskrt.None], error){
			"same":      func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueSame(ctx, "x") },
			"need":      func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueNeed(ctx, "x") },
			"need_much": func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueNeedMuch(ctx, "x") },
			"default":   func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueDefault(ctx, "x") },
			"before":    func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueBefore(ctx, "x") },
			"retype":    func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueRetype(ctx, "x", 1) },
			"harden":    func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueHarden(ctx, "x") },
			"soften":    func() (*taskrt.Handle[taskrt.None], error) { return v1.QueueSoften(ctx, "x") },
		}
	},
	"v2": func(ctx context.Context) map[string]func() (*taskrt.Handle[taskrt.None], error) {
		return map[string]func() (*taskrt.Handle[taskrt.None], error){
			"same":      func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueSame(ctx, "x") },
			"need":      func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueNeed(ctx, "x", "t") },
			"need_much": func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueNeedMuch(ctx, "x", "t") },
			"default":   func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueDefault(ctx, "x", "t") },
			"after":     func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueAfter(ctx, "x") },
			"retype":    func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueRetype(ctx, "x", "1") },
			"harden":    func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueHarden(ctx, "x") },
			"soften":    func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueSoften(ctx, "x") },
			"added":     func() (*taskrt.Handle[taskrt.None], error) { return v2.QueueAdded(ctx, "x") },
		}
	},
}

// TestVersionsSideBySide checks two versions. While one is up alone, it executes the
// runs of the other that it can read, and leaves the rest. Once both are up, every
// run is executed once, with its attempts unspent. taskgen -against must name the
// tasks whose runs are left, and those whose runs are executed without an unknown
// parameter.
func TestVersionsSideBySide(t *testing.T) {
	for _, test := range []struct {
		old, new string
		left     []string // of old's tasks, by a consumer of new
		dropping []string // executed by it without a parameter
	}{
		{"v1", "v2", []string{"need", "need_much", "retype"}, nil},
		{"v2", "v1", []string{"added", "after", "retype"}, []string{"default", "need", "need_much"}},
	} {
		t.Run(test.old+" to "+test.new, func(t *testing.T) {
			named := slices.Sorted(slices.Values(slices.Concat(test.left, test.dropping)))
			require.Equal(t, named, against(t, test.old, test.new), "what taskgen -against names")

			d := deploy(t)
			d.serve(test.new)
			runs := d.queue(test.old, 2)
			d.awaitRuns(runs)
			var left []string
			for id, task := range runs {
				if len(d.ended()[id]) == 0 && !slices.Contains(left, task) {
					left = append(left, task)
				}
			}
			require.ElementsMatch(t, test.left, left, "what a consumer of %s left", test.new)

			d.serve(test.old)
			maps.Copy(runs, d.queue(test.old, 5))
			maps.Copy(runs, d.queue(test.new, 5))
			for _, wait := range d.waits {
				require.NoError(t, wait())
			}
			ended := d.ended()
			require.Len(t, ended, len(runs))
			for id, lines := range ended {
				require.Len(t, lines, 1, "executions of a run of %s", runs[id])
				require.Regexp(t, `^v[12] 1 1$`, lines[0], "version, attempt and delivery of a run of %s", runs[id])
			}
			dead, err := d.broker.(broker.Records).DeadLetters(d.ctx, taskrt.DefaultQueue, 10)
			require.NoError(t, err)
			require.Empty(t, dead)
		})
	}
}

// deployment is builds of the application on one server.
type deployment struct {
	t      *testing.T
	server *redistest.Server
	broker broker.Broker
	ctx    context.Context // for stubs
	ledger string
	waits  []func() error
}

func deploy(t *testing.T) *deployment {
	server := redistest.Start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	b, err := brokerurl.Open(ctx, server.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(io.Closer).Close()) })
	ctx = taskrt.WithClient(ctx, taskrt.NewClient(b, taskrt.ClientConfig{}))
	return &deployment{t: t, server: server, broker: b, ctx: ctx, ledger: filepath.Join(t.TempDir(), "ledger")}
}

// awaitRuns waits until each run is executed, or was left for a time.
func (d *deployment) awaitRuns(runs map[string]string) {
	d.t.Helper()
	left := make(map[string]bool)
	require.Eventually(d.t, func() bool {
		delayed, err := d.broker.(broker.Controls).Runs(d.ctx, taskrt.DefaultQueue, broker.StateDelayed, len(runs))
		require.NoError(d.t, err)
		for _, run := range delayed {
			left[run.Run.ID] = true
		}
		ended := d.ended()
		for id := range runs {
			if len(ended[id]) == 0 && !left[id] {
				return false
			}
		}
		return true
	}, time.Minute, 10*time.Millisecond, "each run is executed or left")
}

// process is one running build.
type process struct {
	log  logged
	stop func() // gracefully; again it does nothing
}

// serve starts a consumer of a version.
func (d *deployment) serve(version string) *process {
	d.t.Helper()
	p := new(process)
	cmd := exec.Command(os.Args[0], "serve", "--consume", "--processes", "1", "--broker", d.server.URL(), "--child-env", "SKEW_*")
	cmd.Env = append(os.Environ(), versionEnv+"="+version, skew.LedgerEnv+"="+d.ledger)
	cmd.Stderr = &p.log
	require.NoError(d.t, cmd.Start())
	p.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		assert.NoError(d.t, cmd.Wait(), "%s: %s", version, &p.log)
	})
	d.t.Cleanup(p.stop)
	require.Eventually(d.t, func() bool { return strings.Contains(p.log.String(), "msg=serving") },
		time.Minute, 10*time.Millisecond, "%s serves, and stops gracefully from then on", version)
	return p
}

// queue queues n runs of each task of a version, and returns their tasks by
// their ids.
func (d *deployment) queue(version string, n int) map[string]string {
	d.t.Helper()
	runs := make(map[string]string)
	for range n {
		for task, queue := range queuers[version](d.ctx) {
			handle, err := queue()
			require.NoError(d.t, err)
			runs[handle.ID] = task
			d.waits = append(d.waits, func() error {
				_, err := handle.Wait(d.ctx)
				return err
			})
		}
	}
	return runs
}

// ended returns the ledger's lines of each run.
func (d *deployment) ended() map[string][]string {
	lines := make(map[string][]string)
	b, err := os.ReadFile(d.ledger)
	if !os.IsNotExist(err) {
		require.NoError(d.t, err)
	}
	for line := range strings.Lines(string(b)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		lines[id] = append(lines[id], rest)
	}
	return lines
}

// logged is a log that is read while it is written.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// against returns the tasks that taskgen -against names when one version
// follows another in a repository.
func against(t *testing.T, before, after string) []string {
	t.Helper()
	dir := t.TempDir()
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	write := func(from, to string, change func(string) string) {
		b, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, to), []byte(change(string(b))), 0o600))
	}
	as := func(s string) string { return s }
	write(filepath.Join(root, "go.sum"), "go.sum", as)
	write(filepath.Join(root, "go.mod"), "go.mod", func(s string) string {
		const path = "github.com/taskgen/taskgen"
		s = strings.Replace(s, "module "+path+"\n", "module "+path+"/skewed\n", 1)
		return s + fmt.Sprintf("\nrequire %s v0.0.0\nreplace %s => %s\n", path, path, root)
	})
	git := func(args ...string) {
		cmd := exec.Command("git", append([]string{"-c", "user.name=gopher", "-c", "user.email=gopher@example.com"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "git %v: %s", args, out)
	}
	write(before+"/tasks.go", "tasks.go", as)
	write(before+"/tasks_gen.go", "tasks_gen.go", as)
	git("init", "-q")
	git("add", ".")
	git("commit", "-q", "-m", before)
	write(after+"/tasks.go", "tasks.go", as)
	result, err := taskgen.Run(t.Context(), taskgen.Config{Dir: dir, Against: "HEAD"})
	require.NoError(t, err)
	require.Empty(t, result.Problems)
	named := make(map[string]bool)
	for _, problem := range result.Breaking {
		named[regexp.MustCompile(`task (\w+)`).FindStringSubmatch(problem.Message)[1]] = true
	}
	return slices.Sorted(maps.Keys(named))
}
