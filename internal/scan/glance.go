package scan

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// errSomething ends a walk that found what it looked for.
var errSomething = errors.New("something is there")

// Nothing reports whether the patterns, as far as they are folders of one
// module, match Go files of which none can hold a task and none is an output:
// then there is nothing to do, and the go command need not be asked. It is
// false whenever that is not certain.
func Nothing(cfg Config) bool {
	patterns := cfg.Patterns
	if len(patterns) == 0 {
		patterns = []string{"."}
	}
	for _, pattern := range patterns {
		dir, below := strings.CutSuffix(filepath.ToSlash(pattern), "/...")
		local := dir == "." || strings.HasPrefix(dir, "./")
		if !local || strings.Contains(dir, "...") || !nothingIn(filepath.Join(cfg.Dir, filepath.FromSlash(dir)), below) {
			return false
		}
	}
	return true
}

// nothingIn is Nothing for a folder, and for those below it. What the go
// command would pass over, it passes over.
func nothingIn(root string, below bool) bool {
	sources := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path == root:
			return nil
		case d.IsDir() && (!below || passedOver(path, d.Name())):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go":
			return nil
		}
		content, err := ReadFile(path)
		if err != nil {
			return err
		}
		if directive.MayOccur(content) || d.Name() == OutputName && IsOutput(content) {
			return errSomething
		}
		sources++
		return nil
	})
	return err == nil && sources > 0 && moduleRoot(root) != ""
}

// passedOver reports whether a pattern that ends in /... leaves a folder out.
func passedOver(path, name string) bool {
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "go.mod"))
	return err == nil
}
