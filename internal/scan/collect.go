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
		documented := documentedBy(file)
		for _, group := range file.Comments {
			b := &builder{pass: s, src: src, conv: conv, file: file, fn: documented[group]}
			if task := b.fromComments(group); task != nil {
				src.Tasks = append(src.Tasks, task)
			}
		}
	}
}

// documentedBy returns the functions of a file by their doc comments.
func documentedBy(file *ast.File) map[*ast.CommentGroup]*ast.FuncDecl {
	functions := map[*ast.CommentGroup]*ast.FuncDecl{}
	for _, decl := range file.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Doc != nil {
			functions[fn.Doc] = fn
		}
	}
	return functions
}

// fromComments returns the task that a comment group makes of its function, or nil if it
// makes none: it has no directives, they are misplaced or wrong, or they name no kind.
func (b *builder) fromComments(group *ast.CommentGroup) *Task {
	directives := b.directives(group)
	if len(directives) == 0 {
		return nil
	}
	if b.fn == nil {
		b.misplaced(group, directives[0])
		return nil
	}
	options, problems := directive.OptionsOf(b.fset, directives)
	b.directiveProblems(b.src.Package, problems)
	if options.Kind == "" {
		return nil
	}
	return b.task(options)
}

// directives returns the directives of one comment group and reports comments that
// only look like one. If such a comment may be an ordinary sentence, it is reported only
// in the doc comment of a function, or above a function.
func (b *builder) directives(group *ast.CommentGroup) []*directive.Directive {
	var found []*directive.Directive
	for _, comment := range group.List {
		d, problem := directive.Find(comment)
		if d != nil {
			found = append(found, d)
		}
		if problem != nil && (!problem.Prose || b.fn != nil || b.functionAfter(b.file, group) != nil) {
			b.directiveProblems(b.src.Package, []*directive.Problem{problem})
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
func (b *builder) misplaced(group *ast.CommentGroup, d *directive.Directive) {
	hint := ""
	if fn := b.functionAfter(b.file, group); fn != nil {
		hint = "; remove the blank line before func " + fn.Name.Name
	}
	b.problem(b.src.Package, d.Pos, "%s must stand in the doc comment of a top-level function%s", d, hint)
}

// functionAfter returns the function that stands below a comment, with only blank lines
// between them, or nil.
func (s *pass) functionAfter(file *ast.File, group *ast.CommentGroup) *ast.FuncDecl {
	if group.End() < file.Name.Pos() {
		return nil // it is about the package
	}
	for _, decl := range file.Decls {
		if decl.Pos() >= group.End() {
			return s.functionBelow(decl, file, group)
		}
		if s.position(group.Pos()).Line <= s.position(decl.End()).Line {
			return nil // within the declaration, or after it on its last line
		}
	}
	return nil
}

// functionBelow is functionAfter if decl is the first declaration after the comment.
func (s *pass) functionBelow(decl ast.Decl, file *ast.File, group *ast.CommentGroup) *ast.FuncDecl {
	fn, ok := decl.(*ast.FuncDecl)
	if !ok {
		return nil
	}
	start := fn.Pos()
	if fn.Doc != nil {
		start = fn.Doc.Pos()
	}
	blank := s.position(start).Line - s.position(group.End()).Line - 1
	if blank < 1 || s.commentBetween(file, group.End(), start) {
		return nil
	}
	return fn
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
