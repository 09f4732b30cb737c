// Command taskgen generates code that queues and runs the annotated functions of Go
// packages. Run "taskgen -h" for an example.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"
	_ "time/tzdata" // tz= must not depend on the machine's zones

	"github.com/rogpeppe/go-internal/diff"

	"github.com/taskgen/taskgen/internal/taskgen"
)

// Exit statuses.
const (
	exitOK      = 0
	exitProblem = 1 // the source has problems, or a file is stale
	exitUsage   = 2 // the command line is wrong
)

func main() { os.Exit(run(time.Now)) }

// run is the whole command. It returns the exit status.
func run(now func() time.Time) int {
	opts, status, done := parse(os.Args[1:], os.Stdout, os.Stderr)
	if done {
		return status
	}
	if opts.version {
		fmt.Println("taskgen", version())
		return exitOK
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	result, err := runGenerator(ctx, opts, now)
	if err != nil {
		fmt.Fprintln(os.Stderr, "taskgen:", err)
		return statusOf(err)
	}
	bad := reportProblems(os.Stderr, opts, result)
	status = act(opts, result)
	if bad {
		return exitProblem
	}
	return status
}

// reportProblems prints the problems of the source and what the comparison found. It
// reports whether there is anything that fails the run.
func reportProblems(w io.Writer, opts options, result *taskgen.Result) (bad bool) {
	for _, p := range append(result.Problems, result.Breaking...) {
		fmt.Fprintln(w, p)
	}
	for _, p := range result.Notes {
		p.Message = "note: " + p.Message
		fmt.Fprintln(w, p)
	}
	for _, remark := range result.Remarks {
		fmt.Fprintln(w, "note:", remark)
	}
	return len(result.Problems)+len(result.Breaking) > 0 || opts.strict && len(result.Notes) > 0
}

// runGenerator runs the generator. For -check and -diff the result also has the clients
// and test kits that the packages' go:generate lines write.
func runGenerator(ctx context.Context, opts options, now func() time.Time) (*taskgen.Result, error) {
	cfg := taskgen.Config{Dir: opts.dir, Patterns: opts.patterns, Against: opts.against, Client: opts.client, Tests: opts.tests}
	if opts.mode == list {
		cfg.Now = now()
	}
	result, err := taskgen.Run(ctx, cfg)
	if err == nil && len(result.Problems) == 0 && (opts.mode == check || opts.mode == showDiff) {
		err = addClients(ctx, opts, result)
	}
	return result, err
}

// statusOf returns the exit status for an error: exitUsage if the command line is wrong.
func statusOf(err error) int {
	var pattern *taskgen.PatternError
	var line *lineError // an error in a go:generate line is no usage error
	if !errors.As(err, &line) && (errors.Is(err, taskgen.ErrRef) || errors.As(err, &pattern)) {
		return exitUsage
	}
	return exitProblem
}

// act writes, checks or prints the result, as the mode says.
func act(opts options, result *taskgen.Result) int {
	switch opts.mode {
	case compare:
		return exitOK
	case list:
		return printTasks(os.Stdout, os.Stderr, result.Tasks, opts)
	case check:
		return stale(os.Stderr, opts, result.Files)
	case showDiff:
		return differences(os.Stdout, result.Files)
	}
	if len(result.Tasks)+len(result.Files)+len(result.Problems) == 0 {
		fmt.Fprintln(os.Stderr, "taskgen: no tasks here; mark a function with //task:io or //task:cpu")
	}
	return applyAll(opts, result.Files)
}

// applyAll writes and removes the files, and reports them if the command is verbose.
func applyAll(opts options, files []taskgen.File) int {
	status := exitOK
	for _, f := range files {
		if err := apply(f); err != nil {
			fmt.Fprintln(os.Stderr, "taskgen:", err)
			status = exitProblem
		} else if opts.verbose {
			report(os.Stderr, f)
		}
	}
	return status
}

// stale names the files that a run would change.
func stale(w io.Writer, opts options, files []taskgen.File) int {
	status := exitOK
	for _, f := range files {
		if f.Change == taskgen.Same {
			continue
		}
		command := "taskgen"
		switch {
		case filepath.Base(f.Target) == taskgen.ClientName && opts.client == nil,
			strings.HasSuffix(f.Target, taskgen.TestKitSuffix) && !opts.tests:
			command = "go generate" // a go:generate line has the flag
		}
		fmt.Fprintf(w, "%s is %s; run %s\n", f.Path, f.Change, command)
		status = exitProblem
	}
	return status
}

// differences prints the changes that a run would make.
func differences(w io.Writer, files []taskgen.File) int {
	status := exitOK
	for _, f := range files {
		if f.Change == taskgen.Same {
			continue
		}
		before, after := names(f)
		_, unified, _ := bytes.Cut(diff.Diff(before, f.Old, after, f.Content), []byte("\n"))
		w.Write(unified) // without the line "diff a/x b/x"
		status = exitProblem
	}
	return status
}

// names returns the names of a changed file in a diff. A file that does not exist is
// /dev/null, as for patch and git.
func names(f taskgen.File) (before, after string) {
	const none = "/dev/null"
	switch before, after = "a/"+f.Path, "b/"+f.Path; f.Change {
	case taskgen.Missing:
		before = none
	case taskgen.Orphan:
		after = none
	}
	return before, after
}

func report(w io.Writer, f taskgen.File) {
	switch {
	case f.Change == taskgen.Orphan:
		fmt.Fprintf(w, "%s: removed, its tasks are gone\n", f.Path)
	case f.Change != taskgen.Same && f.Tasks == 1:
		fmt.Fprintf(w, "%s: 1 task\n", f.Path)
	case f.Change != taskgen.Same:
		fmt.Fprintf(w, "%s: %d tasks\n", f.Path, f.Tasks)
	}
}

// version returns the module's version, as stamped by the go command.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
