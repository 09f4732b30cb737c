package taskgen

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
	"github.com/taskgen/taskgen/internal/scan"
)

// dependency is a package as go list prints it.
type dependency struct {
	ImportPath, Dir   string
	Standard          bool
	GoFiles, CgoFiles []string
	Imports           []string
}

// workers returns the packages of paths that would link tasks into a program. It maps
// each to the package with the tasks, which may be itself. It knows the packages of
// the run.
func workers(ctx context.Context, dir string, run []*scan.Package, paths []string) (map[string]string, error) {
	inRun := map[string]bool{} // whether a package of the run has tasks
	for _, p := range run {
		inRun[p.Path] = len(p.Tasks) > 0
	}
	dependencies, err := listDependencies(ctx, dir, paths)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, d := range dependencies { // each after those that it imports
		worker, err := d.worker(inRun, found)
		if err != nil {
			return nil, err
		}
		if worker != "" {
			found[d.ImportPath] = worker
		}
	}
	return found, nil
}

// listDependencies returns the packages of paths and all that they import, each after
// those that it imports.
func listDependencies(ctx context.Context, dir string, paths []string) ([]dependency, error) {
	args := []string{"list", "-e", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,CgoFiles,Imports", "--"}
	cmd := exec.CommandContext(ctx, "go", append(args, paths...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if said := strings.TrimSpace(stderr.String()); said != "" {
			err = errors.New(said)
		}
		return nil, fmt.Errorf("list what the client imports: %w", err)
	}
	var all []dependency
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var d dependency
		if err := in.Decode(&d); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what the client imports: %w", err)
		}
		all = append(all, d)
	}
}

// worker returns the package with tasks that d would link into a program: d itself, or
// what one of its imports links, as found. It returns "" if there is none.
func (d *dependency) worker(inRun map[string]bool, found map[string]string) (string, error) {
	if d.Standard {
		return "", nil
	}
	has, known := inRun[d.ImportPath]
	if !known {
		var err error
		if has, err = d.hasTasks(); err != nil {
			return "", err
		}
	}
	if has {
		return d.ImportPath, nil
	}
	for _, imported := range d.Imports {
		if worker := found[imported]; worker != "" {
			return worker, nil
		}
	}
	return "", nil
}

func (d *dependency) hasTasks() (bool, error) {
	for _, names := range [][]string{d.GoFiles, d.CgoFiles} {
		for _, name := range names {
			content, err := scan.ReadFile(filepath.Join(d.Dir, name))
			if err != nil {
				return false, fmt.Errorf("read source: %w", err)
			}
			if holdsTasks(name, content) {
				return true, nil
			}
		}
	}
	return false, nil
}

// holdsTasks reports whether a file has tasks or is taskgen's output.
func holdsTasks(name string, content []byte) bool {
	if filepath.Base(name) == scan.OutputName && scan.IsOutput(content) {
		return true
	}
	if !directive.MayOccur(content) {
		return false
	}
	// Syntax errors are not for this run to report.
	file, _ := parser.ParseFile(token.NewFileSet(), name, content, parser.ParseComments|parser.SkipObjectResolution)
	if file == nil {
		return false
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if d, _ := directive.Find(comment); d != nil && (d.Name == "io" || d.Name == "cpu") {
				return true
			}
		}
	}
	return false
}
