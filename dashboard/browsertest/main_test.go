// Package browsertest tests the dashboard in Chromium, as people use it: over a real
// redis-server, with a consumer and a scheduler in the process of the test.
//
// A test opens a site, which is a dashboard with a broker of its own, and tabs that look at it.
// A tab fails its test if a page logs an error, breaks the Content-Security-Policy, throws, or
// asks something that the test does not expect.
package browsertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"

	"github.com/taskgen/taskgen/internal/redistest"
)

var (
	// server is that of all tests that do not break theirs.
	server *redistest.Server
	// chromium is the browser of all tests. Each tab has cookies and storage of its own.
	chromium context.Context
)

// mainTB ends the test binary where there is no test to fail.
type mainTB struct{}

func (mainTB) Helper() {}

func (mainTB) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func TestMain(m *testing.M) { os.Exit(runTests(m)) }

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "browsertest")
	if err != nil {
		mainTB{}.Fatalf("make folder of the tests: %v", err)
	}
	defer os.RemoveAll(dir)
	program, err := findChromium()
	if err != nil {
		mainTB{}.Fatalf("find the browser: %v", err)
	}
	server = redistest.Launch(mainTB{}, dir, "--appendonly", "no")
	defer server.Stop()
	profile := filepath.Join(dir, "profile")
	stop, err := startChromium(program, profile)
	if err != nil {
		server.Stop()
		mainTB{}.Fatalf("start %s: %v", program, err)
	}
	code := m.Run()
	if err := errors.Join(stop(), leftOf(profile)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	server.Stop()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintf(os.Stderr, "goroutines left: %v\n", err)
		return 1
	}
	return code
}

// findChromium returns the path of the browser. TASKGEN_CHROMIUM names another than that of
// Debian.
func findChromium() (string, error) {
	if program := os.Getenv("TASKGEN_CHROMIUM"); program != "" {
		return exec.LookPath(program)
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if program, err := exec.LookPath(name); err == nil {
			return program, nil
		}
	}
	return "", errors.New("there is no chromium in the PATH: apt-get install chromium, or run the tests by make test, which does it")
}

// startChromium starts the browser and returns what ends it and waits for it.
func startChromium(program, profile string) (stop func() error, err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.UserDataDir(profile), chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("allow-pre-commit-input", true), // else clicks before the first paint are dropped
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("lang", "en-GB"),
		chromedp.Env("TZ=UTC"),
	)
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	if _, err := chromedp.Run(ctx, chromedp.Navigate("about:blank")); err != nil {
		cancel()
		endAllocator()
		return nil, err
	}
	chromium = ctx
	return func() error {
		err := chromedp.Cancel(ctx) // waits for its processes
		endAllocator()
		return err
	}, nil
}

// leftOf returns an error if processes of the browser outlive it. The profile's path is on the
// command line of each.
func leftOf(profile string) error {
	var left []string
	for range 50 {
		left = processesOf(profile)
		if len(left) == 0 {
			return nil
		}
		<-time.After(100 * time.Millisecond)
	}
	return fmt.Errorf("processes of the browser are left:\n%s", strings.Join(left, "\n"))
}

func processesOf(profile string) (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline") // none: another system than Linux
	for _, path := range all {
		if line, err := os.ReadFile(path); err == nil && strings.Contains(string(line), profile) {
			found = append(found, path+": "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}
