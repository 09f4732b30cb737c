package scan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// errFound ends a walk that found a task or an output.
var errFound = errors.New("found")

// QuickSkip reports whether taskgen surely has nothing to do: the patterns are
// directories of one module, and their Go files have neither tasks nor output. Then
// the go command need not run. It returns false if in doubt.
func QuickSkip(cfg Config) bool {
	patterns := cfg.Patterns
	if len(patterns) == 0 {
		patterns = []string{"."}
	}
	for _, pattern := range patterns {
		dir, below := strings.CutSuffix(filepath.ToSlash(pattern), "/...")
		local := dir == "." || strings.HasPrefix(dir, "./")
		if !local || strings.Contains(dir, "...") || !skips(filepath.Join(cfg.Dir, filepath.FromSlash(dir)), below) {
			return false
		}
	}
	return true
}

// skips is QuickSkip for a directory, and if below, for those below it that the go
// command would read.
func skips(root string, below bool) bool {
	sources := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path == root:
			return nil
		case d.IsDir() && (!below || excluded(path, d.Name())):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		content, err := ReadFile(path)
		if err != nil {
			return err
		}
		if directive.MayOccur(content) || d.Name() == OutputName && IsOutput(content) {
			return errFound
		}
		sources++
		return nil
	})
	return err == nil && sources > 0 && moduleRoot(root) != ""
}

// excluded reports whether a pattern that ends in /... excludes a directory.
func excluded(path, name string) bool {
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}
