package scan

import (
	"go/ast"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// checkNames reports name conflicts: two tasks of one name, generated names that are
// taken, and a hand-written file with the output's name.
func (s *pass) checkNames() {
	first := map[string]*Task{}
	for _, p := range s.packages {
		for _, t := range p.Tasks {
			if other := first[t.Name]; other != nil {
				s.problem(p, t.namePos, "task name %q is already used at %s; give one of them another with //task:name", t.Name, s.relative(other.Pos))
				continue
			}
			first[t.Name] = t
		}
	}
	s.checkAliases(first)
	for _, src := range s.sources {
		src.names = s.taken(src)
		src.Taken, src.Declared = map[string]bool{}, map[string]bool{}
		for name := range src.names {
			src.Taken[name] = true
		}
		for _, name := range src.types.Scope().Names() {
			src.Declared[name] = true
		}
		s.checkPredeclared(src)
		s.checkGenerated(src)
		s.checkOutput(src)
	}
}

// checkAliases reports aliases that are also another task's name or alias: a run
// under such a name would belong to two tasks.
func (s *pass) checkAliases(first map[string]*Task) {
	aliases := map[string]directive.Word{}
	for _, p := range s.packages {
		for _, t := range p.Tasks {
			for _, alias := range t.Options.Aliases {
				other, at := first[alias.Text], aliases[alias.Text]
				switch {
				case other == t:
					s.problem(p, alias.Pos, "//task:alias: %s is the name of the task itself", alias.Text)
				case other != nil:
					s.problem(p, alias.Pos, "//task:alias: task name %q is already used at %s", alias.Text, s.relative(other.Pos))
				case at.Pos.IsValid():
					s.problem(p, alias.Pos, "//task:alias: %s is an alias already at %s", alias.Text, s.relative(s.position(at.Pos)))
				default:
					aliases[alias.Text] = alias
				}
			}
		}
	}
}

// relative returns a position in another file for a message.
func (s *pass) relative(pos token.Position) string {
	return Relative(s.cfg.Dir, pos).String()
}

// Relative returns pos with its file relative to dir if it is below dir.
func Relative(dir string, pos token.Position) token.Position {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return pos
	}
	if rel, err := filepath.Rel(abs, pos.Filename); err == nil && pos.Filename != "" && filepath.IsLocal(rel) {
		pos.Filename = filepath.ToSlash(rel)
	}
	return pos
}

// taken returns the names that generated code must not declare: those declared in the
// package and those of any file's imports, including dot imports.
func (s *pass) taken(src *source) map[string]token.Pos {
	names := map[string]token.Pos{}
	for _, file := range src.files {
		for _, spec := range file.Imports {
			s.importNames(src, spec, names)
		}
	}
	scope := src.types.Scope()
	for _, name := range scope.Names() {
		names[name] = scope.Lookup(name).Pos()
	}
	return names
}

func (s *pass) importNames(src *source, spec *ast.ImportSpec, names map[string]token.Pos) {
	path := strings.Trim(spec.Path.Value, "\"`")
	if spec.Name != nil && spec.Name.Name != "." {
		names[spec.Name.Name] = spec.Pos()
		return
	}
	imported, err := s.Import(path)
	if err != nil {
		return
	}
	if spec.Name == nil {
		names[imported.Name()] = spec.Pos()
		return
	}
	for _, name := range imported.Scope().Names() {
		if token.IsExported(name) {
			names[name] = spec.Pos()
		}
	}
}

// checkPredeclared reports declarations that hide predeclared names which generated
// code uses.
func (s *pass) checkPredeclared(src *source) {
	if len(src.Tasks) == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(src.Declared)) {
		obj := types.Universe.Lookup(name)
		if _, isType := obj.(*types.TypeName); isType || obj != nil && slices.Contains([]string{"append", "false", "len", "new", "nil", "true"}, name) {
			s.problem(src.Package, src.names[name], "generated code needs the predeclared %s; rename this", name)
		}
	}
}

// checkGenerated reports generated names that the package or another task has too.
func (s *pass) checkGenerated(src *source) {
	owner := map[string]*Task{}
	claim := func(t *Task, name string) {
		if pos, taken := src.names[name]; taken {
			s.problem(src.Package, pos, "taskgen needs the name %s; rename this", name)
		} else if other := owner[name]; other != nil && other != t {
			s.problemAt(src.Package, t.Pos, "tasks %s and %s both need the name %s; rename one", other.Link(), t.Link(), name)
		}
		owner[name] = t
	}
	for _, t := range src.Tasks {
		if owner["Tasks"] == nil {
			claim(t, "Tasks")
		}
		for _, name := range t.GeneratedNames() {
			claim(t, name)
		}
	}
}

// checkOutput reports a hand-written file with the output's name. The sources do not
// include files that taskgen wrote.
func (s *pass) checkOutput(src *source) {
	for _, path := range src.paths {
		if len(src.Tasks) > 0 && filepath.Base(path) == OutputName {
			s.problemAt(src.Package, token.Position{Filename: path, Line: 1, Column: 1}, "taskgen writes %s, but this file was written by hand; rename it", OutputName)
		}
	}
}
