package scan

import (
	"go/ast"
	"go/token"
	"strings"

	"github.com/taskgen/taskgen/internal/directive"
)

// collect makes tasks of a package's annotated functions and reports wrong
// annotations.
func (s *pass) collect(src *source) {
	conv := newConverter(src.types, s)
	for _, file := range src.files {
		docs := map[*ast.CommentGroup]*ast.FuncDecl{}
		for _, decl := range file.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Doc != nil {
				docs[fn.Doc] = fn
			}
		}
		for _, group := range file.Comments {
			directives := s.directives(src.Package, file, group, docs[group])
			if len(directives) == 0 {
				continue
			}
			fn := docs[group]
			if fn == nil {
				s.misplaced(src.Package, file, group, directives[0])
				continue
			}
			options, problems := directive.Fold(s.fset, directives)
			s.directiveProblems(src.Package, problems)
			if options.Kind == "" {
				continue
			}
			b := &builder{pass: s, src: src, conv: conv, file: file, fn: fn}
			if task := b.task(options); task != nil {
				src.Tasks = append(src.Tasks, task)
			}
		}
	}
}

// directives returns the directives of one comment group and reports comments that
// only look like one.
//
// A comment that may be a sentence is one, unless the group is the doc comment of fn
// or a function follows below.
func (s *pass) directives(p *Package, file *ast.File, group *ast.CommentGroup, fn *ast.FuncDecl) []*directive.Directive {
	var found []*directive.Directive
	for _, comment := range group.List {
		d, problem := directive.Find(comment)
		if d != nil {
			found = append(found, d)
		}
		if problem != nil && (!problem.Prose || fn != nil || s.below(file, group) != nil) {
			s.directiveProblems(p, []*directive.Problem{problem})
		}
	}
	return found
}

func (s *pass) directiveProblems(p *Package, problems []*directive.Problem) {
	for _, problem := range problems {
		s.problem(p, problem.Pos, "%s", problem.Message)
	}
}

// misplaced reports a directive outside the doc comment of a top-level function, with
// a hint if a function follows.
func (s *pass) misplaced(p *Package, file *ast.File, group *ast.CommentGroup, d *directive.Directive) {
	hint := ""
	if fn := s.below(file, group); fn != nil {
		hint = "; remove the blank line before func " + fn.Name.Name
	}
	s.problem(p, d.Pos, "%s must stand in the doc comment of a top-level function%s", d, hint)
}

// below returns the function that only blank lines separate from a comment above it.
func (s *pass) below(file *ast.File, group *ast.CommentGroup) *ast.FuncDecl {
	if group.End() < file.Name.Pos() {
		return nil // it is about the package
	}
	for _, decl := range file.Decls {
		if decl.Pos() < group.End() {
			if s.position(group.Pos()).Line <= s.position(decl.End()).Line {
				return nil // within the declaration, or after it on its last line
			}
			continue
		}
		fn, ok := decl.(*ast.FuncDecl)
		start := decl.Pos()
		if ok && fn.Doc != nil {
			start = fn.Doc.Pos()
		}
		gap := s.position(start).Line - s.position(group.End()).Line
		if ok && gap > 1 && !s.commentBetween(file, group.End(), start) {
			return fn
		}
		return nil
	}
	return nil
}

func (s *pass) commentBetween(file *ast.File, from, to token.Pos) bool {
	for _, group := range file.Comments {
		if group.Pos() > from && group.End() < to {
			return true
		}
	}
	return false
}

// doc returns a function's doc comment without directives.
func doc(fn *ast.FuncDecl) string {
	return strings.TrimSpace(fn.Doc.Text())
}
