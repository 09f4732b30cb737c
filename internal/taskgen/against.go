package taskgen

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
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

// addAgainst compares the tasks of each module with those at the git ref.
func (r *Result) addAgainst(ctx context.Context, cfg Config, packages []*scan.Package) error {
	all, err := modules(cfg.Dir, packages)
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("compare with %s: the packages are in no module", cfg.Against)
	}
	for _, m := range all {
		old, err := compat.At(ctx, m.Dir, cfg.Against)
		if err != nil {
			return fmt.Errorf("compare with %s: %w", cfg.Against, err)
		}
		if len(old) == 0 {
			if len(m.tasks) > 0 || len(all) == 1 {
				r.Remarks = append(r.Remarks, fmt.Sprintf("module %s has no tasks at %s: there is nothing to compare with", m.Path, cfg.Against))
			}
			continue
		}
		for _, c := range m.compare(cfg, old) {
			if pos, ok := m.position(cfg.Dir, c); ok && c.Note {
				r.Notes = append(r.Notes, Problem{Pos: pos, Message: c.Message})
			} else if ok {
				r.Breaking = append(r.Breaking, Problem{Pos: pos, Message: c.Message})
			}
		}
	}
	return nil
}

// compare compares the module's tasks with the old ones. A package outside of this run that
// still has a task keeps it: one of that name in the run is another program's.
func (m *module) compare(cfg Config, old []*compat.Task) []compat.Change {
	beside := m.beside()
	old = slices.DeleteFunc(old, func(o *compat.Task) bool {
		return slices.ContainsFunc(beside, func(t *compat.Task) bool { return t.Dir == o.Dir && t.Name == o.Name })
	})
	return compat.Compare(cfg.Against, old, m.tasks, beside)
}

// beside returns the tasks of the module's packages that are not in this run, by their
// generated code.
func (m *module) beside() (tasks []*compat.Task) {
	filepath.WalkDir(m.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // what cannot be read has no tasks that count here
		}
		rel := filepath.ToSlash(strings.TrimPrefix(strings.TrimPrefix(path, m.Dir), string(filepath.Separator)))
		rel = cmp.Or(rel, ".")
		if rel != "." && !mayHavePackages(path, e.Name()) {
			return filepath.SkipDir
		}
		if m.dirs[rel] {
			return nil
		}
		found, _ := compat.In(path) // a run of that package reports what is wrong there
		for _, t := range found {
			t.Dir = rel
		}
		tasks = append(tasks, found...)
		return nil
	})
	return tasks
}

// mayHavePackages reports whether the go command's patterns match a directory below the
// module's.
func mayHavePackages(path, name string) bool {
	if name == "testdata" || name == "vendor" || name == "node_modules" || name[0] == '.' || name[0] == '_' {
		return false
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err != nil
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
		present := &compat.Task{
			Name: t.Name, Aliases: texts(t.Options.Aliases), Queue: cmp.Or(t.Options.Queue, compat.DefaultQueue), From: t.Options.From,
			Params: t.WireParams(), Result: t.WireResult(), Keeps: t.Keep() != 0, Dir: rel,
		}
		addPolicies(present, t)
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

// addPolicies sets the policies of a task.
func addPolicies(present *compat.Task, t *scan.Task) {
	o := &t.Options
	policy := func(keys []*scan.Key) *compat.Policy {
		p := &compat.Policy{}
		for _, k := range keys {
			p.By = append(p.By, k.Wire())
		}
		return p
	}
	if o.Unique != nil {
		present.Unique = &compat.Policy{}
		if len(o.Unique.By) > 0 {
			present.Unique = policy(t.Unique)
		}
	}
	if o.Concurrency != nil {
		present.Concurrency = policy(t.Limit)
	}
	if o.Rate != nil {
		present.Rate = policy(t.Rate)
	}
	if t.Fair != nil {
		present.Fair = policy([]*scan.Key{t.Fair})
	}
}
