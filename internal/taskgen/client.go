package taskgen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/render"
	"github.com/taskgen/taskgen/internal/scan"
)

// ClientName is the file that taskgen writes in a client package.
const ClientName = "client_gen.go"

// Client is the package of stubs to write.
type Client struct {
	Dir  string // absolute
	Name string // of the package
}

// addClient adds the client package to the result, or the problems that prevent it.
func (r *Result) addClient(ctx context.Context, cfg Config, packages []*scan.Package) error {
	target := filepath.Join(cfg.Client.Dir, ClientName)
	tasks, exported := countTasks(packages)
	var content []byte
	if tasks > 0 {
		problems, err := refuseClient(cfg, packages, target, exported)
		if err == nil && len(problems) == 0 {
			content, problems, err = clientSource(ctx, cfg, packages)
		}
		r.Problems = append(r.Problems, problems...)
		if err != nil || len(problems) > 0 {
			return err
		}
	}
	file, err := compare(cfg.Dir, target, content, exported)
	if err == nil && file != nil {
		r.Files = append(r.Files, *file)
	}
	return err
}

// refuseClient returns the problem with the client's directory or with its tasks, if
// there is one.
func refuseClient(cfg Config, packages []*scan.Package, target string, exported int) ([]Problem, error) {
	if slices.ContainsFunc(packages, func(p *scan.Package) bool { return len(p.Tasks) > 0 && p.Dir == cfg.Client.Dir }) {
		return []Problem{tasksThere(cfg)}, nil
	}
	old, err := scan.ReadFile(target)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("read output: %w", err)
	case err == nil && !scan.IsOutput(old):
		return []Problem{byHand(cfg, target)}, nil
	case exported == 0:
		return []Problem{{Message: "-client: none of the tasks is exported; a client would be empty"}}, nil
	}
	return nil, nil
}

func countTasks(packages []*scan.Package) (all, exported int) {
	for _, p := range packages {
		all += len(p.Tasks)
		for _, t := range p.Tasks {
			if t.Exported {
				exported++
			}
		}
	}
	return all, exported
}

func byHand(cfg Config, target string) Problem {
	return Problem{
		Pos:     relative(cfg.Dir, target) + ":1:1",
		Message: "taskgen writes " + ClientName + ", but this file was written by hand; rename it",
	}
}

// clientSource renders the client package, or returns the problems that prevent it. The
// directory may hold other files already.
func clientSource(ctx context.Context, cfg Config, packages []*scan.Package) ([]byte, []Problem, error) {
	beside, err := readNeighbours(cfg.Client.Dir)
	if err != nil {
		return nil, nil, err
	}
	if beside.tasks {
		return nil, []Problem{tasksThere(cfg)}, nil
	}
	if problems := beside.otherPackages(cfg.Dir, cfg.Client.Name); len(problems) > 0 {
		return nil, problems, nil
	}
	importPath, err := importPath(cfg.Client.Dir)
	if err != nil {
		return nil, nil, err
	}
	content, problems, err := render.Client(render.Target{
		Path: importPath, Name: cfg.Client.Name,
		Declared: keys(beside.names.declared), Taken: keys(beside.names.declared, beside.names.imported),
		Workers: func(paths []string) (map[string]string, error) { return workers(ctx, cfg.Dir, packages, paths) },
	}, packages)
	if err != nil || len(problems) > 0 {
		return nil, toProblems(cfg.Dir, problems), err
	}
	clashes, err := beside.clashes(cfg.Dir, filepath.Join(cfg.Client.Dir, ClientName), content)
	return content, clashes, err
}

func tasksThere(cfg Config) Problem {
	return Problem{Pos: relative(cfg.Dir, cfg.Client.Dir), Message: "-client: this is the package of the tasks; name another directory"}
}

// importPath returns the import path of the package in dir, which need not exist, or
// "" if dir is in no module.
func importPath(dir string) (string, error) {
	for root := dir; ; root = filepath.Dir(root) {
		mod, err := scan.ReadFile(filepath.Join(root, "go.mod"))
		if err == nil {
			rel, err := filepath.Rel(root, dir)
			if err != nil {
				return "", fmt.Errorf("place client: %w", err)
			}
			return path.Join(modulePath(string(mod)), filepath.ToSlash(rel)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("place client: %w", err)
		}
		if root == filepath.Dir(root) {
			return "", nil
		}
	}
}

// modulePath returns the path in the module directive of a go.mod.
func modulePath(mod string) string {
	for line := range strings.Lines(mod) {
		line, _, _ = strings.Cut(line, "//")
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module"); ok {
			return strings.Trim(rest, " \t\"`")
		}
	}
	return ""
}
