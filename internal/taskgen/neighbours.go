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
		if err := n.read(dir, e.Name()); err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
	}
	return n, nil
}

// read adds a file, unless build constraints exclude it or it is an external test.
func (n *neighbours) read(dir, name string) error {
	path := filepath.Join(dir, name)
	if err := scan.Regular(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if match, err := build.Default.MatchFile(dir, name); err != nil || !match {
		return nil
	}
	content, err := scan.ReadFile(path)
	if err != nil {
		return err
	}
	n.tasks = n.tasks || holdsTasks(name, content)
	// The compiler reports syntax errors; use what was parsed.
	file, _ := parser.ParseFile(n.fset, path, content, parser.SkipObjectResolution)
	if file != nil && !n.external(file) {
		n.files = append(n.files, file)
		n.names.add(file)
	}
	return nil
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
	var problems []Problem
	for name, at := range n.names.clashes(own) {
		pos := scan.Relative(dir, n.position(at))
		problems = append(problems, Problem{Pos: pos.String(), Message: fmt.Sprintf("-client: %s needs the name %s, which %s declares; rename it, or name another directory", relative(dir, target), name, pos.Filename)})
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Message, b.Message) })
	return problems, nil
}

// clashes returns the positions in s of the names that files of one package cannot have
// in both scopes. Two files may import one name.
func (s *scope) clashes(other *scope) map[string]token.Pos {
	at := map[string]token.Pos{}
	for name := range other.declared {
		if pos, ok := s.declared[name]; ok {
			at[name] = pos
		} else if pos, ok := s.imported[name]; ok {
			at[name] = pos
		}
	}
	for name := range other.imported {
		if pos, ok := s.declared[name]; ok {
			at[name] = pos
		}
	}
	return at
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

// add adds the names of a file.
func (s *scope) add(file *ast.File) {
	for _, spec := range file.Imports {
		s.addImport(spec)
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			s.addFunction(decl)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				s.addSpec(spec)
			}
		}
	}
}

func (s *scope) addImport(spec *ast.ImportSpec) {
	if spec.Name == nil {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			s.imported[path.Base(p)] = spec.Pos() // most packages are named so
		}
	} else if spec.Name.Name != "." && spec.Name.Name != "_" {
		s.imported[spec.Name.Name] = spec.Pos()
	}
}

// addSpec adds the names of a declaration of types, variables or constants.
func (s *scope) addSpec(spec ast.Spec) {
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		s.declare(spec.Name, "")
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			s.declare(name, "")
		}
	}
}

func (s *scope) addFunction(fn *ast.FuncDecl) {
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
