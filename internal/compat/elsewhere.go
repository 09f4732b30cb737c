package compat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
)

// elsewhere returns the generated code of a module that has none in its directory: if the
// module was moved, that of the directory which it had. Without any it returns none, or an
// error if there are tasks that may be the module's.
func (s *snapshot) elsewhere(ctx context.Context, dir, ref string) ([]blob, error) {
	modules, err := s.modules(ctx)
	if err != nil {
		return nil, err
	}
	at, err := s.movedFrom(dir, modules)
	if err != nil {
		return nil, err
	}
	if at != s.module {
		s.module = at
		if blobs, err := s.generated(ctx); err != nil || len(blobs) > 0 {
			return blobs, err
		}
	}
	source, err := s.taskSource(ctx, modules)
	if err == nil && source != "" {
		err = fmt.Errorf("%s at %s has tasks, but there is no %s: there is nothing to compare with; compare with a commit that has the generated code", source, ref, scan.OutputName)
	}
	return nil, err
}

// moduleFile is a go.mod of the commit.
type moduleFile struct {
	dir  string // from the repository's root, with slashes; "" for the root
	path string // of the module
}

// modules returns the modules of the commit.
func (s *snapshot) modules(ctx context.Context) ([]moduleFile, error) {
	whole := *s
	whole.module = ""
	blobs, err := whole.list(ctx)
	if err != nil {
		return nil, err
	}
	blobs = slices.DeleteFunc(blobs, func(b blob) bool { return path.Base(b.path) != "go.mod" })
	if err := s.read(ctx, blobs); err != nil {
		return nil, err
	}
	var found []moduleFile
	for _, b := range blobs {
		found = append(found, moduleFile{strings.Trim(path.Dir(b.path), "./"), modulePath(b.data)})
	}
	return found, nil
}

// movedFrom returns the directory that the module in dir had at the commit: its own, unless
// a module that is not in the work tree any more was this one. That is the one of its path,
// or the only one if there was none here.
func (s *snapshot) movedFrom(dir string, modules []moduleFile) (string, error) {
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read module's path: %w", err)
	}
	here := slices.IndexFunc(modules, func(m moduleFile) bool { return m.dir == s.module })
	if here >= 0 && modules[here].path == modulePath(mod) {
		return s.module, nil
	}
	left := slices.DeleteFunc(slices.Clone(modules), func(m moduleFile) bool {
		now, err := os.ReadFile(filepath.Join(s.root, filepath.FromSlash(m.dir), "go.mod"))
		return err == nil && modulePath(now) == m.path
	})
	for _, m := range left {
		if m.path == modulePath(mod) || here < 0 && len(left) == 1 {
			return m.dir, nil
		}
	}
	return s.module, nil
}

// taskSource returns a file of the module with a task, "" if there is none.
func (s *snapshot) taskSource(ctx context.Context, modules []moduleFile) (string, error) {
	args := []string{"grep", "-l", "-z", "-I", "-E", "--no-color", "--no-recurse-submodules", "-e", "^//task:(io|cpu)", s.commit, "--"}
	if s.module != "" {
		args = append(args, ":(top,literal)"+s.module)
	}
	out, err := git(ctx, s.root, nil, args...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return "", nil // it found none
	}
	if err != nil {
		return "", err
	}
	nested := map[string]bool{}
	for _, m := range modules {
		nested[m.dir] = m.dir != s.module
	}
	for name := range strings.SplitSeq(string(out), "\x00") {
		name = strings.TrimPrefix(name, s.commit+":")
		if path.Ext(name) == ".go" && !ignored(strings.TrimPrefix(name, s.module)) && !s.below(name, nested) {
			return name, nil
		}
	}
	return "", nil
}

// modulePath returns the module's path that a go.mod names.
func modulePath(mod []byte) string {
	for line := range strings.Lines(string(mod)) {
		line, _, _ = strings.Cut(line, "//")
		if words := strings.Fields(line); len(words) == 2 && words[0] == "module" {
			return strings.Trim(words[1], "\"`")
		}
	}
	return ""
}
