package taskapp_test

import (
	"bytes"
	"os"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/internal/testapp/app"
	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestMain makes the test binary three things: a child process for CPU-bound
// tasks, the application "app" of the test scripts, and the tests.
func TestMain(m *testing.M) {
	switch os.Getenv(appEnv) {
	case "":
		taskrt.ServeChild(tasks.Tasks(nil))
	case "filled":
		filledApp()
	default:
		app.Main()
	}
	// A process of the race detector that has goroutines sleeps for a second
	// before it exits; those that tests start need not.
	if err := os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0"); err != nil {
		os.Exit(1)
	}
	testscript.Main(leakChecked{m}, map[string]func(){"app": app.Main})
}

// appEnv makes this binary the application, for tests that start it as a
// process of their own.
const appEnv = "TASKGEN_TEST_APP"

// leakChecked fails the tests when goroutines outlive them.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString("goroutines outlive the tests: " + err.Error() + "\n")
		return 1
	}
	return code
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(env *testscript.Env) error {
		env.Setenv("GORACE", os.Getenv("GORACE"))
		return nil
	}})
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
