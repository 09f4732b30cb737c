package main

import (
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
writes tasks_gen.go. The file has a function for each task that queues a run of
it, and the function Tasks, which returns all tasks for a consumer.

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
	version  bool
	verbose  bool
	dir      string
	against  string
	client   *taskgen.Client
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

// parse parses the command line. If done, the caller exits with status.
func parse(args []string, stdout, stderr io.Writer) (opts options, status int, done bool) {
	flags := flag.NewFlagSet("taskgen", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	modes := map[mode]*bool{
		check:    flags.Bool("check", false, "write nothing; print each file that is stale, missing or orphaned, and exit 1 if there is any;\nthis includes the clients that go:generate lines of the packages write"),
		showDiff: flags.Bool("diff", false, "write nothing; print the changes as a unified diff, and exit 1 if there are any"),
		list:     flags.Bool("list", false, "write nothing; print each task: name, kind, queue, schedule, stub, position; and for each\nschedule its words, its next instants and the effects of this year's clock changes"),
	}
	flags.BoolVar(&opts.json, "json", false, "with -list: print the whole catalogue as JSON, with a JSON Schema of each task's\nparameters and result")
	flags.StringVar(&opts.against, "against", "", "write nothing; compare with the commit at git `ref`; print each change that would break\nruns queued or results kept by its code, and exit 1 if there is any")
	client := flags.String("client", "", "also write a package to `dir` with the stubs of exported tasks, which imports none of the packages")
	name := flags.String("package", "", "with -client: the `name` of the package (default: the last element of dir)")
	flags.BoolVar(&opts.verbose, "v", false, "print each file that is written or removed")
	flags.BoolVar(&opts.version, "version", false, "print the version")
	flags.StringVar(&opts.dir, "C", "", "change to `dir` first")
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return opts, exitOK, true
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err == nil {
		err = opts.setMode(modes, given)
	}
	if err == nil {
		err = opts.setDirs(*client, *name, given)
	}
	if err != nil {
		fmt.Fprintf(stderr, "taskgen: %s\nRun \"taskgen -h\" for usage.\n", err)
		return opts, exitUsage, true
	}
	opts.patterns = flags.Args()
	return opts, exitOK, false
}

// setMode sets the mode. It returns an error if flags exclude each other.
func (opts *options) setMode(modes map[mode]*bool, given map[string]bool) error {
	first := ""
	for _, m := range []struct {
		mode mode
		flag string
		on   bool
	}{
		{check, "-check", *modes[check]},
		{showDiff, "-diff", *modes[showDiff]},
		{list, "-list", *modes[list]},
		{compare, "-against", given["against"]},
	} {
		switch {
		case m.on && first != "":
			return fmt.Errorf("%s and %s exclude each other", first, m.flag)
		case m.on:
			opts.mode, first = m.mode, m.flag
		}
	}
	switch {
	case opts.json && opts.mode != list:
		return errors.New("-json goes with -list")
	case given["against"] && (opts.against == "" || strings.HasPrefix(opts.against, "-")):
		return fmt.Errorf("-against %q: not a git ref", opts.against)
	case given["client"] && (opts.mode == list || opts.mode == compare):
		return fmt.Errorf("%s and -client exclude each other", first)
	case given["package"] && !given["client"]:
		return errors.New("-package goes with -client")
	}
	return nil
}

// setDirs checks the directories and names the client's package.
func (opts *options) setDirs(client, name string, given map[string]bool) error {
	if info, err := os.Stat(opts.dir); opts.dir != "" && (err != nil || !info.IsDir()) {
		return fmt.Errorf("-C %s: not a directory", opts.dir)
	}
	if !given["client"] {
		return nil
	}
	dir := client
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(opts.dir, dir)
	}
	dir, err := filepath.Abs(dir)
	if err != nil || client == "" {
		return fmt.Errorf("-client %q: not a directory", client)
	}
	if name == "" {
		name = filepath.Base(dir)
	}
	switch {
	case !token.IsIdentifier(name) || name == "_" || name == "main":
		return fmt.Errorf("-client: %q is not the name of a package to import; give it another with -package", name)
	}
	opts.client = &taskgen.Client{Dir: dir, Name: name}
	return nil
}
