package scan

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/tools/go/packages"

	"github.com/taskgen/taskgen/internal/directive"
)

// excludedPackages reports tasks in the packages of which build constraints exclude every
// file. The go command leaves them out of what a pattern with ... matches.
func (s *pass) excludedPackages(found []*packages.Package) error {
	matches := s.wildcards(found)
	if len(matches) == 0 || hasDriver() {
		return nil
	}
	listed := map[string]bool{}
	for _, p := range found {
		listed[p.Dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(s.goDirs)) {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return fmt.Errorf("find excluded packages: %w", err)
		}
		if listed[abs] || !slices.ContainsFunc(matches, func(m *regexp.Regexp) bool { return m.MatchString(filepath.ToSlash(abs)) }) {
			continue
		}
		if err := s.excludedPackage(abs, found); err != nil {
			return err
		}
	}
	return nil
}

// excludedPackage reports tasks in the files of a directory that the go command did not
// list.
func (s *pass) excludedPackage(dir string, found []*packages.Package) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("read package's folder: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if !e.Type().IsRegular() || filepath.Ext(e.Name()) != ".go" || e.Name()[0] == '.' || e.Name()[0] == '_' {
			continue
		}
		content, err := ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("read source: %w", err)
		}
		if directive.MayOccur(content) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	// The go command may name the directory by another path. It ignores some by go.mod.
	if len(paths) == 0 || slices.ContainsFunc(found, func(p *packages.Package) bool { return sameDir(p.Dir, dir) }) || ignoredByModule(dir) {
		return nil
	}
	pkg := &Package{Name: filepath.Base(dir), Dir: dir}
	if err := s.ignoredFiles(pkg, paths); err != nil {
		return err
	}
	if pkg.Broken {
		s.packages = append(s.packages, pkg)
	}
	return nil
}

func sameDir(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, two)
}

// wildcards returns expressions for the directories that the patterns with ... match: local
// ones, and those of import paths in the module of the packages found.
func (s *pass) wildcards(found []*packages.Package) []*regexp.Regexp {
	var all []*regexp.Regexp
	for _, pattern := range s.cfg.Patterns {
		slashed := filepath.ToSlash(pattern)
		if !strings.Contains(slashed, "...") {
			continue
		}
		dir := ""
		switch {
		case filepath.IsAbs(pattern):
			dir = pattern
		case slashed[0] == '.':
			dir, _ = filepath.Abs(filepath.Join(s.cfg.Dir, filepath.FromSlash(slashed)))
		default:
			dir = inModule(slashed, moduleRoot(s.cfg.Dir), found)
		}
		if dir != "" {
			all = append(all, wildcard(filepath.ToSlash(dir)))
		}
	}
	return all
}

// inModule returns the directory of an import path in the module of root, or "" if it is in
// another module.
func inModule(importPath, root string, found []*packages.Package) string {
	for _, p := range found {
		if p.Module == nil || !sameDir(p.Module.Dir, root) {
			continue
		}
		rest, ok := strings.CutPrefix(importPath, p.Module.Path)
		if ok && (rest[0] == '/' || strings.HasPrefix(rest, "...")) {
			return filepath.Join(root, filepath.FromSlash(rest))
		}
	}
	return ""
}

// wildcard returns an expression for a pattern of the go command: ... is any text, and /...
// at the end is nothing, too.
func wildcard(pattern string) *regexp.Regexp {
	text := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\.\.\.`, `.*`)
	if rest, ok := strings.CutSuffix(text, `/.*`); ok {
		text = rest + `(/.*)?`
	}
	return regexp.MustCompile(`^` + text + `$`)
}

// ignoredByModule reports whether an ignore directive in go.mod keeps a directory out of
// patterns: ./x is a path from the module's root, and x is one from anywhere in it.
func ignoredByModule(dir string) bool {
	root := moduleRoot(dir)
	mod, err := ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return false
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return false
	}
	below := "/" + filepath.ToSlash(rel) + "/"
	block := ""
	for line := range strings.Lines(string(mod)) {
		line, _, _ = strings.Cut(line, "//")
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case len(words) == 1 && words[0] == ")":
			block = ""
			continue
		case len(words) == 1 && block != "":
			words = []string{block, words[0]}
		}
		if len(words) != 2 || words[0] != "ignore" {
			continue
		}
		name := strings.Trim(words[1], "\"`")
		if rooted, ok := strings.CutPrefix(name, "./"); ok && strings.HasPrefix(below, "/"+path.Clean(rooted)+"/") || !ok && strings.Contains(below, "/"+path.Clean(name)+"/") {
			return true
		}
	}
	return false
}
