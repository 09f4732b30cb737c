// Package taskgen is the generator's pipeline: it loads packages, finds their
// tasks, checks them and renders their code. It returns what is to be written
// and what is wrong, and writes nothing itself.
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

// Config says which packages to generate for, and what else to do with them.
type Config struct {
	Dir      string   // working directory; defaults to the process's own
	Patterns []string // as for go list; defaults to "."
	Against  string   // a git ref to compare with; empty: none
	Client   *Client  // a package of stubs to write too; nil: none

	Now time.Time // what the catalogue explains schedules from; zero: it does not, and is the same each time
}

// Result is what a run found.
type Result struct {
	Dirs     []string  // of the packages that were asked for
	Files    []File    // one for each output that there is or should be
	Tasks    []Task    // of packages without problems, in the order of packages and source
	Problems []Problem // sorted by position; the packages they are in keep their output
	Breaking []Problem // what breaks runs that the code of Against has queued; nil when there are problems
}

// File is one output.
type File struct {
	Path    string // relative to Dir where it is below it, for messages
	Target  string // absolute
	Old     []byte // what is there; nil when nothing is
	Content []byte // nil: the file is to go, its tasks are gone
	Change  Change
	Tasks   int
}

// Change says what a file on disk lacks.
type Change int

// What can become of an output.
const (
	Same    Change = iota // it is as it should be
	Missing               // it is not there yet
	Stale                 // it is not what would be generated now
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

// Problem is something wrong, at its position.
type Problem struct {
	Pos     string // file:line:col, relative to Dir where it is below it; may be empty
	Message string
}

func (p Problem) String() string {
	if p.Pos == "" {
		return p.Message
	}
	return p.Pos + ": " + p.Message
}

// Run runs the pipeline. The error is for what no package can be blamed for, a
// PatternError and ErrRef for what the caller asked for; whatever is wrong in a package is one of the result's problems.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if len(cfg.Patterns) == 0 {
		cfg.Patterns = []string{"."}
	}
	if err := files(cfg); err != nil {
		return nil, err
	}
	scanned := scan.Config{Dir: cfg.Dir, Patterns: cfg.Patterns}
	if cfg.Client == nil && cfg.Against == "" && scan.Nothing(scanned) {
		return &Result{}, nil
	}
	packages, problems, err := scan.Scan(ctx, scanned)
	if err != nil {
		return nil, err
	}
	if err := unmatched(cfg, packages, problems); err != nil {
		return nil, err
	}
	result := &Result{}
	for _, p := range problems {
		result.Problems = append(result.Problems, problem(cfg.Dir, p))
	}
	for _, pkg := range packages {
		if pkg.Dir != "" {
			result.Dirs = append(result.Dirs, pkg.Dir)
		}
		if pkg.Broken || pkg.Dir == "" {
			continue
		}
		file, err := output(cfg.Dir, pkg)
		if err != nil {
			return nil, err
		}
		if file != nil {
			result.Files = append(result.Files, *file)
		}
		for _, t := range pkg.Tasks {
			task, err := listed(cfg, pkg, t)
			if err != nil {
				return nil, err
			}
			result.Tasks = append(result.Tasks, task)
		}
	}
	if len(problems) > 0 {
		return result, nil
	}
	if cfg.Client != nil {
		if err := client(ctx, cfg, packages, result); err != nil {
			return nil, err
		}
	}
	if cfg.Against != "" {
		result.Breaking, err = against(ctx, cfg, packages)
	}
	return result, err
}

func problem(dir string, p scan.Problem) Problem {
	pos := scan.Relative(dir, p.Pos)
	text := pos.String()
	if pos.Filename == "" {
		text = ""
	}
	return Problem{Pos: text, Message: p.Message}
}

// output compares what a package should have with what is there. It returns
// nil when there is neither.
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

// compare holds what a file should be, nil for not being there, against what
// it is. A file that is not ours and need not be is left alone: nil.
func compare(dir, target string, content []byte, tasks int) (*File, error) {
	file := &File{Path: relative(dir, target), Target: target, Content: content, Tasks: tasks}
	old, err := scan.ReadFile(target)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read output: %w", err)
	}
	file.Old = old
	switch {
	case content == nil && (!exists || !scan.IsOutput(old)):
		return nil, nil
	case content == nil:
		file.Change = Orphan
	case !exists:
		file.Change = Missing
	case !bytes.Equal(old, content):
		file.Change = Stale
	}
	return file, nil
}

// relative is a path as messages show it.
func relative(dir, path string) string {
	return scan.Relative(dir, token.Position{Filename: path}).Filename
}
