package scan

import (
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReadFile is [os.ReadFile] for regular files. Reading a pipe could block forever.
func ReadFile(path string) ([]byte, error) {
	if err := Regular(path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Regular returns an error if path is neither a regular file nor a link to one.
func Regular(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = &os.PathError{Op: "read", Path: path, Err: errors.New("not a regular file; move it away")}
	}
	return err
}

// checkRegular returns an error if a Go file that the go command may read is not a
// regular file: reading a pipe could block forever. It checks the packages of the
// patterns and the rest of their module. Elsewhere, as in the module cache, only the
// go command writes. It notes the directories that have Go files.
func (s *pass) checkRegular() error {
	looked := map[string]bool{}
	patterns := s.cfg.Patterns
	if len(patterns) == 0 {
		patterns = []string{"."}
	}
	for _, pattern := range patterns {
		for root, below := range s.rootsOf(pattern) {
			if looked[root] {
				continue
			}
			looked[root] = below
			if err := s.regularIn(root, below); err != nil {
				return err
			}
		}
	}
	return nil
}

// rootsOf returns the directories in which the go command may read for a pattern, and
// whether it reads below them.
func (s *pass) rootsOf(pattern string) map[string]bool {
	dir, below := strings.CutSuffix(filepath.ToSlash(pattern), "/...")
	if local := dir == "." || dir == ".." || strings.HasPrefix(dir, "./") || strings.HasPrefix(dir, "../") || filepath.IsAbs(pattern); !local {
		dir, below = ".", false
	}
	dir, _, more := strings.Cut(dir, "...")
	if more { // in the middle: matches are somewhere below
		dir, below = filepath.Dir(dir+"x"), true
	}
	dir = filepath.FromSlash(dir)
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.cfg.Dir, dir)
	}
	roots := map[string]bool{dir: below}
	if root := moduleRoot(dir); root != "" {
		roots[root] = true
	}
	return roots
}

// regularIn is checkRegular for one directory, and if below, for those below it. The
// go command reports unreadable ones.
func (s *pass) regularIn(root string, below bool) error {
	// The separator makes WalkDir follow a root that is a link.
	return filepath.WalkDir(root+string(filepath.Separator), func(path string, d fs.DirEntry, err error) error {
		if d == nil { // the root does not exist
			return nil
		}
		name := d.Name()
		switch {
		case err != nil && d.IsDir():
			return fs.SkipDir
		case err != nil:
			return nil
		case d.IsDir() && filepath.Clean(path) == filepath.Clean(root):
			return nil
		case d.IsDir() && (!below || excluded(path, name)):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go" || name[0] == '.' || name[0] == '_':
			return nil
		case d.Type().IsRegular():
			s.goDirs[filepath.Dir(path)] = true
			return nil
		}
		return s.regularTarget(path)
	})
}

// regularTarget returns an error if path exists and is neither a regular file, a
// directory nor a link to one.
func (s *pass) regularTarget(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.IsDir() || info.Mode().IsRegular() {
		return nil
	}
	what := "a device"
	switch info.Mode().Type() {
	case fs.ModeNamedPipe:
		what = "a named pipe"
	case fs.ModeSocket:
		what = "a socket"
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return fmt.Errorf("read source: %s is %s, not a regular file; move it away", s.relative(token.Position{Filename: path}), what)
}

// moduleRoot returns the root directory of dir's module, or "" if it is in none.
func moduleRoot(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		if info, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil && !info.IsDir() {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}
