package taskgen

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/taskgen/taskgen/internal/render"
	"github.com/taskgen/taskgen/internal/scan"
)

// TestKitSuffix ends the names of the files of test kits: taskstest_gen.go.
const TestKitSuffix = "test_gen.go"

// addTestKits adds the test kits of the packages, each in a folder below that of its tasks.
func (r *Result) addTestKits(cfg Config, packages []*scan.Package) error {
	for _, pkg := range packages {
		if pkg.Dir == "" || pkg.Broken {
			continue
		}
		if err := r.addTestKit(cfg, pkg); err != nil {
			return err
		}
	}
	return nil
}

func (r *Result) addTestKit(cfg Config, pkg *scan.Package) error {
	name := render.TestKitName(pkg)
	target := filepath.Join(pkg.Dir, name, name+"_gen.go")
	exported := 0
	for _, t := range pkg.Tasks {
		if t.Exported {
			exported++
		}
	}
	if pkg.Name == "main" {
		if exported > 0 {
			at := scan.Relative(cfg.Dir, pkg.Tasks[0].Pos)
			r.Problems = append(r.Problems, Problem{Pos: at.String(), Message: "-test: package main cannot be imported by a test kit; move its tasks to a package of their own"})
		}
		return nil
	}
	old, err := scan.ReadFile(target)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read output: %w", err)
	case err == nil && !scan.IsOutput(old):
		r.Problems = append(r.Problems, Problem{
			Pos:     relative(cfg.Dir, target) + ":1:1",
			Message: "taskgen writes " + filepath.Base(target) + ", but this file was written by hand; rename it",
		})
		return nil
	}
	var content []byte
	if exported > 0 {
		if content, err = render.TestKit(pkg); err != nil {
			return err
		}
	}
	file, err := compare(cfg.Dir, target, content, exported)
	if err != nil || file == nil {
		return err
	}
	if !slices.ContainsFunc(r.Files, func(f File) bool { return f.Target == target }) {
		r.Files = append(r.Files, *file)
	}
	return nil
}
