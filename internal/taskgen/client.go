package taskgen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
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

// client adds the client package to the result, or the problems that prevent it.
func client(ctx context.Context, cfg Config, packages []*scan.Package, result *Result) error {
	target := filepath.Join(cfg.Client.Dir, ClientName)
	refuse := func(pos, format string, args ...any) {
		result.Problems = append(result.Problems, Problem{Pos: pos, Message: fmt.Sprintf(format, args...)})
	}
	tasks, exported := 0, 0
	for _, p := range packages {
		if len(p.Tasks) > 0 && p.Dir == cfg.Client.Dir {
			result.Problems = append(result.Problems, tasksThere(cfg))
			return nil
		}
		tasks += len(p.Tasks)
		for _, t := range p.Tasks {
			if t.Exported {
				exported++
			}
		}
	}
	old, err := scan.ReadFile(target)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read output: %w", err)
	case err == nil && tasks > 0 && !scan.IsOutput(old):
		refuse(relative(cfg.Dir, target)+":1:1", "taskgen writes %s, but this file was written by hand; rename it", ClientName)
		return nil
	case tasks > 0 && exported == 0:
		refuse("", "-client: none of the tasks is exported; a client would be empty")
		return nil
	}
	var content []byte
	if tasks > 0 {
		var problems []Problem
		content, problems, err = clientSource(ctx, cfg, packages)
		result.Problems = append(result.Problems, problems...)
		if err != nil || len(problems) > 0 {
			return err
		}
	}
	file, err := compare(cfg.Dir, target, content, exported)
	if err == nil && file != nil {
		result.Files = append(result.Files, *file)
	}
	return err
}

// clientSource renders the client package. It may hold other files already.
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
	content, found, err := render.Client(render.Target{
		Path: importPath, Name: cfg.Client.Name,
		Declared: keys(beside.names.declared), Taken: keys(beside.names.declared, beside.names.imported),
		Workers: func(paths []string) (map[string]string, error) { return workers(ctx, cfg.Dir, packages, paths) },
	}, packages)
	if err != nil {
		return nil, nil, err
	}
	if len(found) > 0 {
		var problems []Problem
		for _, p := range found {
			problems = append(problems, problem(cfg.Dir, p))
		}
		return nil, problems, nil
	}
	problems, err := beside.clashes(cfg.Dir, filepath.Join(cfg.Client.Dir, ClientName), content)
	return content, problems, err
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
