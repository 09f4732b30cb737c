package taskgen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/render"
	"github.com/taskgen/taskgen/internal/scan"
)

// ClientName is the file that taskgen writes in a package of stubs.
const ClientName = "client_gen.go"

// Client says where a package of stubs goes.
type Client struct {
	Dir  string // absolute
	Name string // of the package
}

// client adds the package of stubs to the result, or what stands against it.
func client(cfg Config, packages []*scan.Package, result *Result) error {
	target := filepath.Join(cfg.Client.Dir, ClientName)
	refuse := func(pos, format string, args ...any) {
		result.Problems = append(result.Problems, Problem{Pos: pos, Message: fmt.Sprintf(format, args...)})
	}
	tasks, exported := 0, 0
	for _, p := range packages {
		if len(p.Tasks) > 0 && p.Dir == cfg.Client.Dir {
			refuse(relative(cfg.Dir, p.Dir), "-client: this is the package of the tasks; name another directory")
			return nil
		}
		tasks += len(p.Tasks)
		for _, t := range p.Tasks {
			if t.Exported {
				exported++
			}
		}
	}
	old, err := os.ReadFile(target)
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
		importPath, err := importPath(cfg.Client.Dir)
		if err != nil {
			return err
		}
		var problems []scan.Problem
		if content, problems, err = render.Client(importPath, cfg.Client.Name, packages); err != nil {
			return err
		}
		for _, p := range problems {
			result.Problems = append(result.Problems, problem(cfg.Dir, p))
		}
		if len(problems) > 0 {
			return nil
		}
	}
	file, err := compare(cfg.Dir, target, content, exported)
	if err == nil && file != nil {
		result.Files = append(result.Files, *file)
	}
	return err
}

// importPath is the path of the package in dir, which need not be there yet;
// "" outside of any module.
func importPath(dir string) (string, error) {
	for root := dir; ; root = filepath.Dir(root) {
		mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
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

// modulePath finds the module directive of a go.mod.
func modulePath(mod string) string {
	for line := range strings.Lines(mod) {
		line, _, _ = strings.Cut(line, "//")
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "module"); ok {
			return strings.Trim(rest, " \t\"`")
		}
	}
	return ""
}
