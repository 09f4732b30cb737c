package scan

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/packages"

	"github.com/taskgen/taskgen/internal/directive"
)

// maxSyntaxErrors is how many syntax errors of one file are reported. Later ones
// mostly follow from the first.
const maxSyntaxErrors = 5

// source is a package that may have tasks. It is parsed and checked here, because
// go/packages would compile it and so need the generated code, which does not exist
// yet.
type source struct {
	*Package
	goVersion string
	paths     []string
	contents  [][]byte
	files     []*ast.File
	info      *types.Info
	checking  bool
	unparsed  bool // it has syntax errors: declarations may be missing
	errors    []types.Error
}

// importedPackage is a package known from its export data.
type importedPackage struct {
	types *types.Package
	err   error
}

// list finds the packages and reads their files. It loads no types.
func (s *pass) list(ctx context.Context) error {
	if err := s.checkRegular(); err != nil {
		return err
	}
	found, err := s.matched(ctx)
	if err != nil {
		return fmt.Errorf("list packages: %s", goMessage(err))
	}
	slices.SortFunc(found, func(a, b *packages.Package) int { return strings.Compare(a.PkgPath, b.PkgPath) })
	for _, p := range found {
		if err := s.read(p); err != nil {
			return err
		}
	}
	return s.excludedPackages(found)
}

// goMessage returns the go command's own message from an error of go/packages.
func goMessage(err error) string {
	text := err.Error()
	if _, said, ok := strings.Cut(text, "stderr: "); ok {
		text = said
	}
	return strings.TrimSpace(text)
}

// read adds one listed package, and its files if they may have tasks.
func (s *pass) read(p *packages.Package) error {
	pkg := &Package{Path: p.PkgPath, Name: p.Name, Dir: p.Dir}
	src := &source{Package: pkg, paths: p.GoFiles}
	if p.Module != nil {
		src.goVersion = p.Module.GoVersion
		pkg.Module = Module{Path: p.Module.Path, Dir: p.Module.Dir}
	}
	ignored := p.IgnoredFiles
	if len(p.Errors) > 0 {
		// A stale output may be the cause, so try without it.
		if again, ok := withoutOutput(p.Dir); ok {
			pkg.Name = again.Name
			src.paths = under(p.Dir, again.GoFiles, again.CgoFiles)
			ignored = under(p.Dir, again.IgnoredGoFiles)
		} else {
			s.listErrors(pkg, p.Errors)
		}
	}
	s.packages = append(s.packages, pkg)
	if err := s.testFiles(pkg); err != nil {
		return err
	}
	if pkg.Dir == "" || len(src.paths) == 0 && len(p.Errors) == 0 && len(ignored) == 0 {
		return nil
	}
	slices.Sort(src.paths)
	src.paths = slices.Compact(src.paths)
	return s.readFiles(src, ignored)
}

// readFiles reads the files of a package, which becomes a source if they may have tasks,
// and reports tasks in ignored files.
func (s *pass) readFiles(src *source, ignored []string) error {
	mayHoldTasks := false
	kept := src.paths[:0]
	for _, path := range src.paths {
		content, err := ReadFile(path)
		if err != nil {
			return fmt.Errorf("read source: %w", err)
		}
		if filepath.Base(path) == OutputName && IsOutput(content) {
			continue
		}
		kept = append(kept, path)
		src.contents = append(src.contents, content)
		mayHoldTasks = mayHoldTasks || directive.MayOccur(content)
	}
	src.paths = kept
	if mayHoldTasks {
		s.sources = append(s.sources, src)
		s.byPath[src.Path] = src
	}
	return s.ignoredFiles(src.Package, ignored)
}

// withoutOutput returns a package's files without taskgen's output. It reports false
// if there is no output or the package is no better without it.
func withoutOutput(dir string) (*build.Package, bool) {
	old, err := ReadFile(filepath.Join(dir, OutputName))
	if dir == "" || err != nil || !IsOutput(old) {
		return nil, false
	}
	ctxt := build.Default
	ctxt.ReadDir = func(dir string) ([]os.FileInfo, error) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		var infos []os.FileInfo
		for _, e := range entries {
			if info, err := e.Info(); err == nil && e.Name() != OutputName {
				infos = append(infos, info)
			}
		}
		return infos, nil
	}
	p, err := ctxt.ImportDir(dir, 0)
	var empty *build.NoGoError
	return p, err == nil || errors.As(err, &empty)
}

func under(dir string, lists ...[]string) []string {
	var paths []string
	for _, names := range lists {
		for _, name := range names {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

// listErrors reports the go command's errors for a package. For syntax errors, the
// parser has the better message.
func (s *pass) listErrors(p *Package, errs []packages.Error) {
	for _, e := range errs {
		pos := parsePosition(e.Pos)
		if e.Kind == packages.ParseError && pos.Line > 0 {
			s.problemAt(p, pos, "%s", e.Msg)
			continue
		}
		msg := strings.TrimSpace(e.Msg)
		if pos.Line == 0 && p.Path != "" && !strings.Contains(msg, p.Path) {
			msg = "package " + p.Path + ": " + msg
		}
		s.problemAt(p, pos, "%s", msg)
	}
}

// parsePosition parses file:line:col or file:line; the file may contain colons.
func parsePosition(text string) token.Position {
	var numbers []int
	for len(numbers) < 2 {
		i := strings.LastIndexByte(text, ':')
		if i < 0 {
			break
		}
		n, err := strconv.Atoi(text[i+1:])
		if err != nil {
			break
		}
		numbers, text = append(numbers, n), text[:i]
	}
	switch len(numbers) {
	case 2:
		return token.Position{Filename: text, Line: numbers[1], Column: numbers[0]}
	case 1:
		return token.Position{Filename: text, Line: numbers[0]}
	}
	return token.Position{}
}

// parse parses the files of a package. After a syntax error, functions may be
// missing, so nothing is generated.
func (s *pass) parse(src *source) {
	for i, path := range src.paths {
		file, err := parser.ParseFile(s.fset, path, src.contents[i], parser.ParseComments|parser.SkipObjectResolution)
		if file != nil {
			src.files = append(src.files, file)
		}
		src.unparsed = src.unparsed || err != nil
		var list scanner.ErrorList
		switch {
		case errors.As(err, &list):
			if _, known := s.unparsed[src.Path]; !known {
				s.unparsed[src.Path] = located{list[0].Pos, list[0].Msg}
			}
			for _, e := range list[:min(len(list), maxSyntaxErrors)] {
				s.problemAt(src.Package, e.Pos, "%s", e.Msg)
			}
		case err != nil:
			s.problemAt(src.Package, token.Position{Filename: path}, "parse: %s", err)
		}
		src.contents[i] = nil
	}
}

// loadImports reads the export data of all packages that the sources import.
func (s *pass) loadImports(ctx context.Context) error {
	wanted := s.foreignImports()
	s.imported = map[string]*importedPackage{}
	if len(wanted) == 0 {
		return nil
	}
	loaded, err := s.dependencies(ctx, wanted)
	if err != nil {
		return err
	}
	for _, p := range loaded {
		ip := &importedPackage{types: p.Types}
		if len(p.Errors) > 0 {
			ip.err = errors.New(strings.Join(strings.Fields(p.Errors[0].Msg), " "))
		}
		s.imported[p.PkgPath] = ip
	}
	return nil
}

// foreignImports returns the import paths of the sources that are no sources
// themselves.
func (s *pass) foreignImports() map[string]bool {
	wanted := map[string]bool{}
	for _, src := range s.sources {
		for _, file := range src.files {
			for _, spec := range file.Imports {
				path, err := strconv.Unquote(spec.Path.Value)
				if err == nil && path != "C" && path != "unsafe" && s.byPath[path] == nil {
					wanted[path] = true
				}
			}
		}
	}
	return wanted
}

// Import implements types.Importer with the loaded packages.
func (s *pass) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if err := s.halfParsed(path); err != nil {
		return nil, err
	}
	if src := s.byPath[path]; src != nil {
		if src.checking {
			return nil, fmt.Errorf("import cycle through %s", path)
		}
		s.check(src)
		return src.types, nil
	}
	p := s.imported[path]
	switch {
	case p == nil:
		return nil, fmt.Errorf("package %s was not found", path)
	case p.types != nil && p.types.Name() != "":
		return p.types, nil
	case p.err != nil:
		return nil, p.err
	}
	return nil, fmt.Errorf("package %s has no types", path)
}

// check finds the types of a package's declarations. It expects type errors, because
// generated code is missing, and keeps them to explain a signature that does not
// resolve.
func (s *pass) check(src *source) {
	if src.types != nil || src.checking {
		return
	}
	src.checking = true
	src.info = &types.Info{Defs: map[*ast.Ident]types.Object{}}
	cfg := types.Config{
		Importer:                 s,
		IgnoreFuncBodies:         true,
		DisableUnusedImportCheck: true,
		FakeImportC:              true,
		Sizes:                    types.SizesFor("gc", runtime.GOARCH),
		Error: func(err error) {
			var te types.Error
			if errors.As(err, &te) {
				src.errors = append(src.errors, te)
			}
		},
	}
	if src.goVersion != "" {
		cfg.GoVersion = "go" + src.goVersion
	}
	// The error is the first of the collected ones.
	src.types, _ = cfg.Check(src.Path, s.fset, src.files, src.info)
	src.checking = false
}
