package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/taskgen"
)

const usage = `Usage: taskgen [flags] [packages]

taskgen generates the code that queues and runs annotated Go functions, called
tasks. For each package (default: the one in this directory; ./... works) it
writes tasks_gen.go. For each task that file has a function that queues a run of
the task. Its function Tasks returns all tasks for a consumer.

	//task:io
	//task:retry 5
	//task:timeout 30s
	func FetchData(ctx context.Context, url string) error { ... }

becomes

	func QueueFetchData(ctx context.Context, url string, opts ...taskrt.QueueOption) (*taskrt.Handle[taskrt.None], error)

Add this line to a file of the package and run "go generate":

	//go:generate go tool taskgen

Flags:
`

// options are the parsed command line.
type options struct {
	mode     mode
	json     bool
	asyncAPI bool
	version  bool
	verbose  bool
	dir      string
	against  string
	strict   bool
	client   *taskgen.Client
	tests    bool
	patterns []string
}

// mode is what taskgen does apart from reporting problems.
type mode int

const (
	write mode = iota
	check
	showDiff
	list
	compare
)

// flagSet has the flags of the command line, and which of them are given.
type flagSet struct {
	*flag.FlagSet
	modes        map[mode]*bool
	client, name *string
	given        map[string]bool
}

// declareFlags declares the flags of the command.
func (opts *options) declareFlags() *flagSet {
	set := flag.NewFlagSet("taskgen", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	f := &flagSet{FlagSet: set, given: map[string]bool{}}
	f.modes = map[mode]*bool{
		check:    set.Bool("check", false, "write nothing; print each file that is stale, missing or orphaned, and exit 1 if there is any;\nthis includes the clients that go:generate lines of the packages write"),
		showDiff: set.Bool("diff", false, "write nothing; print the changes as a unified diff, and exit 1 if there are any"),
		list:     set.Bool("list", false, "write nothing; print each task: name, kind, queue, schedule, stub, position; whether it\nreturns a call; and for each schedule its words, its next instants and the effects of this\nyear's clock changes"),
	}
	set.BoolVar(&opts.json, "json", false, "with -list: print the whole catalogue as JSON, with a JSON Schema of each task's\nparameters and result")
	set.BoolVar(&opts.asyncAPI, "asyncapi", false, "with -list: print the catalogue as an AsyncAPI 3.0 document: a channel for each queue, an\noperation for each task")
	set.StringVar(&opts.against, "against", "", "write nothing; compare with the commit at git `ref`; print each change that would break\nruns queued or results kept by its code, and exit 1 if there is any; changes that only\nmatter to older runs, some values or the time of the deploy are notes; goes with -check too")
	set.BoolVar(&opts.strict, "strict", false, "with -against: exit 1 if there are notes, too")
	f.client = set.String("client", "", "also write a package to `dir` with the stubs of exported tasks, which imports none of the packages")
	f.name = set.String("package", "", "with -client: the `name` of the package (default: the last element of dir)")
	set.BoolVar(&opts.tests, "test", false, "also write the test kit of each package with exported tasks, a package that only tests\nimport: taskstest, in a folder of that name, for package tasks")
	set.BoolVar(&opts.verbose, "v", false, "print each file that is written or removed")
	set.BoolVar(&opts.version, "version", false, "print the version")
	set.StringVar(&opts.dir, "C", "", "change to `dir` first")
	return f
}

// parse parses the command line. If done, the caller exits with status.
func parse(args []string, stdout, stderr io.Writer) (opts options, status int, done bool) {
	f := opts.declareFlags()
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return opts, exitOK, true
	}
	f.Visit(func(one *flag.Flag) { f.given[one.Name] = true })
	if err == nil {
		err = opts.setMode(f)
	}
	if err == nil {
		err = opts.setClient(f)
	}
	if err != nil {
		fmt.Fprintf(stderr, "taskgen: %s\nRun \"taskgen -h\" for usage.\n", err)
		return opts, exitUsage, true
	}
	opts.patterns = f.Args()
	return opts, exitOK, false
}

// setMode sets the mode. It returns an error if flags exclude each other.
func (opts *options) setMode(f *flagSet) error {
	modeFlag := "" // the flag that sets the mode
	for _, m := range []struct {
		mode mode
		flag string
		on   bool
	}{
		{check, "-check", *f.modes[check]},
		{showDiff, "-diff", *f.modes[showDiff]},
		{list, "-list", *f.modes[list]},
		{compare, "-against", f.given["against"] && !*f.modes[check]},
	} {
		switch {
		case m.on && modeFlag != "":
			return fmt.Errorf("%s and %s exclude each other", modeFlag, m.flag)
		case m.on:
			opts.mode, modeFlag = m.mode, m.flag
		}
	}
	return opts.checkMode(modeFlag, f.given)
}

// checkMode returns an error if a flag cannot be given together with the mode. modeFlag is
// the flag that sets the mode, "" if none does.
func (opts *options) checkMode(modeFlag string, given map[string]bool) error {
	switch {
	case opts.json && opts.mode != list:
		return errors.New("-json goes with -list")
	case opts.asyncAPI && opts.mode != list:
		return errors.New("-asyncapi goes with -list")
	case opts.json && opts.asyncAPI:
		return errors.New("-json and -asyncapi exclude each other")
	case given["against"] && (opts.against == "" || strings.HasPrefix(opts.against, "-")):
		return fmt.Errorf("-against %q: not a git ref", opts.against)
	case opts.strict && !given["against"]:
		return errors.New("-strict goes with -against")
	case given["client"] && (opts.mode == list || opts.mode == compare):
		return fmt.Errorf("%s and -client exclude each other", modeFlag)
	case given["test"] && (opts.mode == list || opts.mode == compare):
		return fmt.Errorf("%s and -test exclude each other", modeFlag)
	case given["package"] && !given["client"]:
		return errors.New("-package goes with -client")
	}
	return nil
}

// setClient sets the client if -client is given. A relative directory of the client is below
// that of -C, which setClient checks.
func (opts *options) setClient(f *flagSet) error {
	if info, err := os.Stat(opts.dir); opts.dir != "" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("-C %s: not a directory", opts.dir)
	}
	if !f.given["client"] {
		return nil
	}
	dir := *f.client
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(opts.dir, dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil || *f.client == "" {
		return fmt.Errorf("-client %q: not a directory", *f.client)
	}
	name := cmp.Or(*f.name, filepath.Base(dir))
	if !token.IsIdentifier(name) || name == "_" || name == "main" {
		return fmt.Errorf("-client: %q is not the name of a package to import; give it another with -package", name)
	}
	opts.client = &taskgen.Client{Dir: dir, Name: name}
	return nil
}
