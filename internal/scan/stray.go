package scan

import (
	"errors"
	"fmt"
	"go/parser"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// testFiles reports tasks in test files, which no program includes.
func (s *pass) testFiles(p *Package) error {
	if p.Dir == "" {
		return nil
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read package's folder: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		if err := s.stray(p, filepath.Join(p.Dir, e.Name()), "a test file cannot have tasks, because no program includes them; move them to another file"); err != nil {
			return err
		}
	}
	return nil
}

// ignoredFiles reports tasks in files that build constraints exclude.
func (s *pass) ignoredFiles(p *Package, paths []string) error {
	for _, path := range paths {
		if filepath.Base(path) == OutputName || strings.HasSuffix(path, "_test.go") {
			continue
		}
		if err := s.stray(p, path, "build constraints exclude this file and its tasks; move the tasks to a file without constraints and call the system-specific function from there"); err != nil {
			return err
		}
	}
	return nil
}

// stray reports the first task of a file that is not part of the package.
func (s *pass) stray(p *Package, path, why string) error {
	if filepath.Ext(path) != ".go" {
		return nil
	}
	content, err := ReadFile(path)
	if err != nil {
		return fmt.Errorf("read source: %w", err)
	}
	if !directive.MayOccur(content) {
		return nil
	}
	// Syntax errors are not for taskgen to report.
	file, _ := parser.ParseFile(s.fset, path, content, parser.ParseComments|parser.SkipObjectResolution)
	if file == nil {
		return nil
	}
	for _, group := range file.Comments {
		for _, comment := range group.List {
			if d, _ := directive.Find(comment); d != nil {
				s.problem(p, d.Pos, "%s", why)
				return nil
			}
		}
	}
	return nil
}
