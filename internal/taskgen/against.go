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
	"github.com/taskgen/taskgen/internal/schema"
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
			switch {
			case c.New != nil:
				breaking = append(breaking, Problem{Pos: m.at[c.New], Message: c.Message})
			case m.concerns(c.Old.Dir):
				dir := relative(cfg.Dir, filepath.Join(m.Dir, filepath.FromSlash(c.Old.Dir)))
				breaking = append(breaking, Problem{Pos: dir, Message: c.Message})
			}
		}
	}
	return breaking, nil
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
		m := all[i]
		rel, err := filepath.Rel(m.Dir, pkg.Dir)
		if err != nil {
			return nil, fmt.Errorf("place package %s: %w", pkg.Path, err)
		}
		m.dirs[filepath.ToSlash(rel)] = true
		for _, t := range pkg.Tasks {
			present := &compat.Task{Name: t.Name, Params: schema.OfParams(t), Result: schema.OfResult(t), Dir: filepath.ToSlash(rel)}
			for _, alias := range t.Options.Aliases {
				present.Aliases = append(present.Aliases, alias.Text)
			}
			m.tasks = append(m.tasks, present)
			m.at[present] = scan.Relative(dir, t.Pos).String()
		}
	}
	return all, nil
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
