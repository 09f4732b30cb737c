// Package taskgen is the generator's pipeline: it loads packages, finds their
// tasks, checks them and renders their code. It returns what is to be written
// and what is wrong, and writes nothing itself.
package taskgen

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/taskgen/taskgen/internal/render"
	"github.com/taskgen/taskgen/internal/scan"
)

// Config says which packages to generate for.
type Config struct {
	Dir      string   // working directory; defaults to the process's own
	Patterns []string // as for go list; defaults to "."
}

// Result is what a run found.
type Result struct {
	Files    []File    // one for each output that there is or should be
	Tasks    []Task    // of packages without problems, in the order of packages and source
	Problems []Problem // sorted by position; the packages they are in keep their output
}

// File is one output.
type File struct {
	Path    string // relative to Dir where it is below it, for messages
	Target  string // absolute
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

// Task is one task, for listing.
type Task struct {
	Name, Kind, Queue, Stub, Pos string
	Every                        time.Duration // 0: not scheduled
}

// Run runs the pipeline. The error is for what no package can be blamed for;
// whatever is wrong in a package is one of the result's problems.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	packages, problems, err := scan.Scan(ctx, scan.Config{Dir: cfg.Dir, Patterns: cfg.Patterns})
	if err != nil {
		return nil, err
	}
	result := &Result{}
	for _, p := range problems {
		result.Problems = append(result.Problems, problem(cfg.Dir, p))
	}
	for _, pkg := range packages {
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
			result.Tasks = append(result.Tasks, listed(cfg.Dir, t))
		}
	}
	return result, nil
}

func problem(dir string, p scan.Problem) Problem {
	pos := scan.Relative(dir, p.Pos)
	text := pos.String()
	if pos.Filename == "" {
		text = ""
	}
	return Problem{Pos: text, Message: p.Message}
}

func listed(dir string, t *scan.Task) Task {
	return Task{
		Name:  t.Name,
		Kind:  t.Options.Kind,
		Queue: cmp.Or(t.Options.Queue, "default"),
		Stub:  t.StubName(),
		Pos:   scan.Relative(dir, t.Pos).String(),
		Every: t.Options.Every,
	}
}

// output compares what a package should have with what is there. It returns
// nil when there is neither.
func output(dir string, pkg *scan.Package) (*File, error) {
	target := filepath.Join(pkg.Dir, scan.OutputName)
	file := &File{Target: target, Tasks: len(pkg.Tasks)}
	pos := scan.Problem{}.Pos
	pos.Filename = target
	file.Path = scan.Relative(dir, pos).Filename
	old, err := os.ReadFile(target)
	exists := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read output: %w", err)
	}
	if len(pkg.Tasks) == 0 {
		if !exists || !scan.IsOutput(old) {
			return nil, nil
		}
		file.Change = Orphan
		return file, nil
	}
	if file.Content, err = render.File(pkg); err != nil {
		return nil, err
	}
	switch {
	case !exists:
		file.Change = Missing
	case !bytes.Equal(old, file.Content):
		file.Change = Stale
	}
	return file, nil
}
