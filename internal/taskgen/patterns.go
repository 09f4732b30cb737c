package taskgen

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
)

// PatternError is returned if a pattern matches no package.
type PatternError struct{ Message string }

func (e *PatternError) Error() string { return e.Message }

// files returns an error if a pattern is a file. The go command would make a package
// of that file alone, and lose the tasks of the others.
func files(cfg Config) error {
	for _, pattern := range cfg.Patterns {
		slashed := filepath.ToSlash(pattern)
		local := strings.HasPrefix(slashed, "./") || strings.HasPrefix(slashed, "../") || filepath.IsAbs(pattern)
		if !local && !strings.HasSuffix(pattern, ".go") {
			continue // an import path, even if a file has that name
		}
		file := pattern
		if !filepath.IsAbs(file) {
			file = filepath.Join(cfg.Dir, file)
		}
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		dir := path.Dir(slashed)
		if dir != "." && dir != ".." && !filepath.IsAbs(pattern) && !strings.HasPrefix(dir, "../") {
			dir = "./" + dir
		}
		return &PatternError{pattern + " is a file; name its package, such as " + dir}
	}
	return nil
}

// unmatched returns an error if a pattern matches nothing.
func unmatched(cfg Config, packages []*scan.Package, problems []scan.Problem) error {
	if len(packages) == 0 {
		return &PatternError{strings.Join(cfg.Patterns, " ") + ": no packages match"}
	}
	if !slices.ContainsFunc(packages, func(p *scan.Package) bool { return p.Broken && p.Name == "" }) {
		return nil
	}
	var said []string
	for _, p := range problems {
		if p.Pos.Filename == "" {
			said = append(said, p.Message)
		}
	}
	if len(said) == 0 {
		return nil // there are files, but their package clause does not parse
	}
	return &PatternError{strings.Join(said, "\n")}
}
