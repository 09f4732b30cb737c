// Command taskgen writes the code that queues and runs the annotated functions
// of Go packages. Run "taskgen -h" for an example.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"text/tabwriter"

	"github.com/taskgen/taskgen/internal/taskgen"
)

// Exit statuses.
const (
	exitOK      = 0
	exitProblem = 1 // something is wrong with the source, or stale
	exitUsage   = 2
)

const usage = `Usage: taskgen [flags] [packages]

taskgen makes tasks of annotated Go functions. For each package (default: the
one in this directory; ./... works) it writes tasks_gen.go, with a function that
queues each task and one, Tasks, that hands all of them to a consumer.

	//task:io
	//task:retry 5
	//task:timeout 30s
	func FetchData(ctx context.Context, url string) error { ... }

becomes

	func QueueFetchData(ctx context.Context, url string, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error)

Put this line into a file of the package and run "go generate":

	//go:generate go tool taskgen

Flags:
`

// options are the command line.
type options struct {
	check, list, version, verbose bool
	dir                           string
	patterns                      []string
}

func main() { os.Exit(run()) }

// run is the whole command; it returns the exit status.
func run() int {
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
	result, err := taskgen.Run(ctx, taskgen.Config{Dir: opts.dir, Patterns: opts.patterns})
	if err != nil {
		fmt.Fprintln(os.Stderr, "taskgen:", err)
		return exitProblem
	}
	for _, p := range result.Problems {
		fmt.Fprintln(os.Stderr, p)
	}
	status = act(opts, result)
	if len(result.Problems) > 0 {
		return exitProblem
	}
	return status
}

// parse reads the command line. done means that there is nothing left to do
// but to exit with status.
func parse(args []string, stdout, stderr io.Writer) (opts options, status int, done bool) {
	flags := flag.NewFlagSet("taskgen", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&opts.check, "check", false, "write nothing; name each file that is stale, missing or orphaned, and exit 1")
	flags.BoolVar(&opts.list, "list", false, "write nothing; print the tasks: name, kind, queue, schedule, stub, position")
	flags.BoolVar(&opts.verbose, "v", false, "name each file that is written or removed")
	flags.BoolVar(&opts.version, "version", false, "print the version")
	flags.StringVar(&opts.dir, "C", "", "change to `dir` before anything else")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return opts, exitOK, true
	case err != nil:
		fmt.Fprintf(stderr, "taskgen: %s\nRun \"taskgen -h\" for usage.\n", err)
		return opts, exitUsage, true
	case opts.check && opts.list:
		fmt.Fprint(stderr, "taskgen: -check and -list exclude each other\nRun \"taskgen -h\" for usage.\n")
		return opts, exitUsage, true
	}
	if info, err := os.Stat(opts.dir); opts.dir != "" && (err != nil || !info.IsDir()) {
		fmt.Fprintf(stderr, "taskgen: -C %s: not a directory\n", opts.dir)
		return opts, exitUsage, true
	}
	opts.patterns = flags.Args()
	return opts, exitOK, false
}

// act does with the result what the flags ask for.
func act(opts options, result *taskgen.Result) int {
	switch {
	case opts.list:
		list(os.Stdout, result.Tasks)
		return exitOK
	case opts.check:
		return check(os.Stderr, result.Files)
	}
	status := exitOK
	for _, f := range result.Files {
		if err := apply(f); err != nil {
			fmt.Fprintln(os.Stderr, "taskgen:", err)
			status = exitProblem
		} else if opts.verbose {
			report(os.Stderr, f)
		}
	}
	return status
}

// check names what a run would change.
func check(w io.Writer, files []taskgen.File) int {
	status := exitOK
	for _, f := range files {
		if f.Change != taskgen.Same {
			fmt.Fprintf(w, "%s is %s; run taskgen\n", f.Path, f.Change)
			status = exitProblem
		}
	}
	return status
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

func list(w io.Writer, tasks []taskgen.Task) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer out.Flush()
	for _, t := range tasks {
		schedule := "-"
		if t.Every > 0 {
			schedule = "every " + t.Every.String()
		}
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%s\t%s\n", t.Name, t.Kind, t.Queue, schedule, t.Stub, t.Pos)
	}
}

// version is that of the module, as the go command stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
