// Package taskgen is the generator's pipeline. It loads packages, finds and checks
// their tasks, and renders their code. It returns the files to write and the problems
// found; it writes nothing.
package taskgen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/taskgen/taskgen/internal/render"
	"github.com/taskgen/taskgen/internal/scan"
)

// Config selects the packages to generate for, and what else to do with them.
type Config struct {
	Dir      string   // working directory; defaults to the process's own
	Patterns []string // as for go list; defaults to "."
	Against  string   // a git ref to compare with; empty: do not compare
	Client   *Client  // a package of stubs to write too; nil: write none
	Tests    bool     // write the packages' test kits too

	Now time.Time // the time from which the catalogue explains schedules; zero: no explanations
}

// Result is the outcome of a run.
type Result struct {
	Dirs     []string  // directories of the packages that the patterns match
	Files    []File    // one for each output that exists or should exist
	Tasks    []Task    // of packages without problems, ordered by package and position
	Problems []Problem // sorted by position; a package with a problem keeps its output
	Notes    []Problem // changes that break nothing that this code queued or awaits, but matter otherwise
	Remarks  []string  // what the comparison with Against could not say
	Breaking []Problem // changes that break runs queued by the code of Against; nil if there are problems
}

// File is one output file.
type File struct {
	Path    string // for messages: relative to Dir if it is below Dir
	Target  string // absolute
	Old     []byte // current content, with lines that end in \n; nil if the file does not exist
	Content []byte // new content; nil if the file must be removed
	Change  Change
	Tasks   int
}

// Change is the difference between an output and the file on disk.
type Change int

// The changes of an output.
const (
	Same    Change = iota // it is up to date
	Missing               // it does not exist
	Stale                 // its content differs
	Orphan                // its package has no tasks any more
)

func (c Change) String() string {
	switch c {
	case Missing:
		return "missing"
	case Stale:
		return "stale"
	case Orphan:
		return "orphaned"
	}
	return "same"
}

// Problem is an error in the source.
type Problem struct {
	Pos     string // file:line:col, relative to Dir if below Dir; may be empty
	Message string
}

func (p Problem) String() string {
	if p.Pos == "" {
		return p.Message
	}
	return p.Pos + ": " + p.Message
}

// Run runs the pipeline. It returns an error only for what is no package's fault: a
// PatternError or ErrRef if cfg is wrong, or a go command that does not run. Errors
// in packages are the result's Problems.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Patterns) == 0 {
		cfg.Patterns = []string{"."}
	}
	if err := rejectFiles(cfg); err != nil {
		return nil, err
	}
	scanned := scan.Config{Dir: cfg.Dir, Patterns: cfg.Patterns}
	if cfg.Client == nil && !cfg.Tests && cfg.Against == "" && scan.QuickSkip(scanned) {
		return &Result{}, nil
	}
	packages, problems, err := scan.Scan(ctx, scanned)
	if err != nil {
		return nil, err
	}
	if err := rejectUnmatched(cfg, packages, problems); err != nil {
		return nil, err
	}
	result := &Result{Problems: toProblems(cfg.Dir, problems)}
	for _, pkg := range packages {
		if err := result.add(cfg, pkg); err != nil {
			return nil, err
		}
	}
	if len(problems) > 0 {
		return result, nil // a client or a comparison would lack tasks
	}
	return result, result.addOptional(ctx, cfg, packages)
}

// add adds the output and the tasks of one package, unless the package has a problem.
func (r *Result) add(cfg Config, pkg *scan.Package) error {
	if pkg.Dir == "" {
		return nil
	}
	r.Dirs = append(r.Dirs, pkg.Dir)
	if pkg.Broken {
		return nil
	}
	file, err := output(cfg.Dir, pkg)
	if err != nil {
		return err
	}
	if file != nil {
		r.Files = append(r.Files, *file)
	}
	for _, t := range pkg.Tasks {
		entry, err := newTask(cfg, pkg, t)
		if err != nil {
			return err
		}
		r.Tasks = append(r.Tasks, entry)
	}
	return nil
}

// addOptional adds what cfg asks for beyond the outputs: test kits, a client, and a comparison
// with a git ref.
func (r *Result) addOptional(ctx context.Context, cfg Config, packages []*scan.Package) error {
	if cfg.Tests {
		if err := r.addTestKits(cfg, packages); err != nil {
			return err
		}
	}
	if cfg.Client != nil {
		if err := r.addClient(ctx, cfg, packages); err != nil {
			return err
		}
	}
	if cfg.Against != "" {
		return r.addAgainst(ctx, cfg, packages)
	}
	return nil
}

func toProblems(dir string, found []scan.Problem) []Problem {
	var problems []Problem
	for _, p := range found {
		problems = append(problems, toProblem(dir, p))
	}
	return problems
}

func toProblem(dir string, p scan.Problem) Problem {
	pos := scan.Relative(dir, p.Pos)
	text := pos.String()
	if pos.Filename == "" {
		text = ""
	}
	return Problem{Pos: text, Message: p.Message}
}

// output compares the generated code of a package with the file on disk. It returns
// nil if there is neither.
func output(dir string, pkg *scan.Package) (*File, error) {
	var content []byte
	if len(pkg.Tasks) > 0 {
		var err error
		if content, err = render.File(pkg); err != nil {
			return nil, err
		}
	}
	return compare(dir, filepath.Join(pkg.Dir, scan.OutputName), content, len(pkg.Tasks))
}

// compare compares the wanted content of a file, nil for no file, with the file on
// disk. It returns nil for a file that is not wanted and not ours.
func compare(dir, target string, content []byte, tasks int) (*File, error) {
	file := &File{Path: relative(dir, target), Target: target, Content: content, Tasks: tasks}
	old, err := scan.ReadFile(target)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read output: %w", err)
	}
	file.Old = unixLines(old)
	switch {
	case content == nil && (!exists || !scan.IsOutput(old)):
		return nil, nil
	case content == nil:
		file.Change = Orphan
	case !exists:
		file.Change = Missing
	case !bytes.Equal(file.Old, content):
		file.Change = Stale
	}
	return file, nil
}

// unixLines returns a file without the carriage returns that git puts before the ends of
// lines in some checkouts. Generated code has none of its own.
func unixLines(content []byte) []byte {
	return bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
}

// relative returns a path for messages.
func relative(dir, path string) string {
	return scan.Relative(dir, token.Position{Filename: path}).Filename
}
