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

// rejectFiles returns an error if a pattern is a file. The go command would make a
// package of that file alone, and lose the tasks of the others.
func rejectFiles(cfg Config) error {
	for _, pattern := range cfg.Patterns {
		if isFile(cfg.Dir, pattern) {
			return &PatternError{pattern + " is a file; name its package, such as " + packageOf(pattern)}
		}
	}
	return nil
}

// isFile reports whether a pattern is a file. An import path is none, even if a file has
// that name.
func isFile(dir, pattern string) bool {
	slashed := filepath.ToSlash(pattern)
	local := strings.HasPrefix(slashed, "./") || strings.HasPrefix(slashed, "../") || filepath.IsAbs(pattern)
	if !local && !strings.HasSuffix(pattern, ".go") {
		return false
	}
	file := pattern
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	info, err := os.Stat(file)
	return err == nil && !info.IsDir()
}

// packageOf returns the pattern of a file's package.
func packageOf(file string) string {
	dir := path.Dir(filepath.ToSlash(file))
	if dir == "." || dir == ".." || filepath.IsAbs(file) || strings.HasPrefix(dir, "../") {
		return dir
	}
	return "./" + dir
}

// rejectUnmatched returns an error if a pattern matches nothing.
func rejectUnmatched(cfg Config, packages []*scan.Package, problems []scan.Problem) error {
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
