package taskgen

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/internal/scan"
)

// neighbours are the other Go files in the client's directory.
type neighbours struct {
	fset  *token.FileSet
	files []*ast.File
	names *scope
	tasks bool // one of them has tasks
}

// scope holds the names that Go files declare at package level, methods as
// Type.Method, and the names of their imports.
type scope struct {
	declared map[string]token.Pos
	imported map[string]token.Pos
}

// readNeighbours reads the files that are compiled with the client, including tests.
func readNeighbours(dir string) (*neighbours, error) {
	n := &neighbours{fset: token.NewFileSet(), names: newScope()}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read client's folder: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || filepath.Ext(e.Name()) != ".go" || e.Name() == ClientName {
			continue
		}
		if err := scan.Regular(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read source: %w", err)
		}
		if match, err := build.Default.MatchFile(dir, e.Name()); err != nil || !match {
			continue
		}
		content, err := scan.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		n.tasks = n.tasks || holdsTasks(e.Name(), content)
		// The compiler reports syntax errors; use what was parsed.
		file, _ := parser.ParseFile(n.fset, filepath.Join(dir, e.Name()), content, parser.SkipObjectResolution)
		if file == nil || n.external(file) {
			continue
		}
		n.files = append(n.files, file)
		n.names.add(file)
	}
	return n, nil
}

// external reports whether a file is an external test of the package.
func (n *neighbours) external(file *ast.File) bool {
	return strings.HasSuffix(n.position(file.Name.Pos()).Filename, "_test.go") && strings.HasSuffix(file.Name.Name, "_test")
}

func (n *neighbours) position(pos token.Pos) token.Position { return n.fset.PositionFor(pos, false) }

// otherPackages returns a problem for the first file whose package is not the
// client's.
func (n *neighbours) otherPackages(dir, name string) []Problem {
	for _, file := range n.files {
		if other := file.Name.Name; other != name {
			pos := scan.Relative(dir, n.position(file.Name.Pos()))
			hint := ", or give the client that name with -package"
			if other == "main" {
				hint = ""
			}
			return []Problem{{Pos: pos.String(), Message: fmt.Sprintf("-client: the client is package %s, but %s is of package %s; name another directory%s", name, pos.Filename, other, hint)}}
		}
	}
	return nil
}

// clashes returns a problem for each name that both the client and its neighbours
// declare, ordered by name.
func (n *neighbours) clashes(dir, target string, client []byte) ([]Problem, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", client, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse client: %w", err)
	}
	own := newScope()
	own.add(file)
	at := map[string]token.Pos{}
	for name := range own.declared {
		if pos, ok := n.names.declared[name]; ok {
			at[name] = pos
		} else if pos, ok := n.names.imported[name]; ok {
			at[name] = pos
		}
	}
	for name := range own.imported {
		if pos, ok := n.names.declared[name]; ok {
			at[name] = pos
		}
	}
	var problems []Problem
	for name, at := range at {
		pos := scan.Relative(dir, n.position(at))
		problems = append(problems, Problem{Pos: pos.String(), Message: fmt.Sprintf("-client: %s needs the name %s, which %s declares; rename it, or name another directory", relative(dir, target), name, pos.Filename)})
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Message, b.Message) })
	return problems, nil
}

func newScope() *scope {
	return &scope{declared: map[string]token.Pos{}, imported: map[string]token.Pos{}}
}

// keys returns the names in all maps.
func keys(all ...map[string]token.Pos) map[string]bool {
	names := map[string]bool{}
	for _, m := range all {
		for name := range m {
			names[name] = true
		}
	}
	return names
}

func (s *scope) add(file *ast.File) {
	for _, spec := range file.Imports {
		if spec.Name != nil {
			s.imported[spec.Name.Name] = spec.Pos()
		} else if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			s.imported[path.Base(p)] = spec.Pos() // most packages are named so
		}
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			s.function(decl)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					s.declare(spec.Name, "")
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						s.declare(name, "")
					}
				}
			}
		}
	}
	delete(s.imported, ".")
	delete(s.imported, "_")
}

func (s *scope) function(fn *ast.FuncDecl) {
	if fn.Recv == nil {
		if fn.Name.Name != "init" {
			s.declare(fn.Name, "")
		}
		return
	}
	if len(fn.Recv.List) == 0 {
		return
	}
	t := fn.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if id, ok := t.(*ast.Ident); ok {
		s.declare(fn.Name, id.Name+".")
	}
}

func (s *scope) declare(name *ast.Ident, prefix string) {
	if name.Name != "_" {
		s.declared[prefix+name.Name] = name.Pos()
	}
}
