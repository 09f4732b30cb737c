package taskgen

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/compat"
	"github.com/taskgen/taskgen/internal/scan"
)

// ErrRef is returned if Against names no commit.
var ErrRef = compat.ErrRef

// module is the present state of one module.
type module struct {
	scan.Module
	tasks []*compat.Task
	at    map[*compat.Task]string // positions
	dirs  map[string]bool         // of the packages in the run, relative to the module's
}

// against compares the tasks of each module with those at the git ref.
func against(ctx context.Context, cfg Config, packages []*scan.Package) ([]Problem, error) {
	all, err := modules(cfg.Dir, packages)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("compare with %s: the packages are in no module", cfg.Against)
	}
	var breaking []Problem
	for _, m := range all {
		old, err := compat.At(ctx, m.Dir, cfg.Against)
		if err != nil {
			return nil, fmt.Errorf("compare with %s: %w", cfg.Against, err)
		}
		for _, c := range compat.Compare(cfg.Against, old, m.tasks) {
			if pos, ok := m.position(cfg.Dir, c); ok {
				breaking = append(breaking, Problem{Pos: pos, Message: c.Message})
			}
		}
	}
	return breaking, nil
}

// position returns the position of a changed task, or the directory of one that is gone.
// It reports false if this run does not cover that directory.
func (m *module) position(dir string, c compat.Change) (pos string, ok bool) {
	if c.New != nil {
		return m.at[c.New], true
	}
	return relative(dir, filepath.Join(m.Dir, filepath.FromSlash(c.Old.Dir))), m.concerns(c.Old.Dir)
}

// modules groups the packages by module, in their order.
func modules(dir string, packages []*scan.Package) ([]*module, error) {
	var all []*module
	for _, pkg := range packages {
		if pkg.Module.Dir == "" {
			continue
		}
		i := slices.IndexFunc(all, func(m *module) bool { return m.Dir == pkg.Module.Dir })
		if i < 0 {
			i = len(all)
			all = append(all, &module{Module: pkg.Module, at: map[*compat.Task]string{}, dirs: map[string]bool{}})
		}
		if err := all[i].add(dir, pkg); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// add adds a package and its tasks.
func (m *module) add(dir string, pkg *scan.Package) error {
	rel, err := filepath.Rel(m.Dir, pkg.Dir)
	if err != nil {
		return fmt.Errorf("place package %s: %w", pkg.Path, err)
	}
	rel = filepath.ToSlash(rel)
	m.dirs[rel] = true
	for _, t := range pkg.Tasks {
		present := &compat.Task{Name: t.Name, Aliases: texts(t.Options.Aliases), Params: t.WireParams(), Result: t.WireResult(), Dir: rel}
		m.tasks = append(m.tasks, present)
		m.at[present] = scan.Relative(dir, t.Pos).String()
	}
	return nil
}

// concerns reports whether this run covers the tasks that a package had: the package
// is in the run, or it does not exist any more.
func (m *module) concerns(dir string) bool {
	if m.dirs[dir] {
		return true
	}
	entries, err := os.ReadDir(filepath.Join(m.Dir, filepath.FromSlash(dir)))
	return err != nil || !slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		return strings.HasSuffix(e.Name(), ".go") && !strings.HasSuffix(e.Name(), "_test.go") && e.Name() != scan.OutputName
	})
}
