package scan

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"slices"
	"strconv"
	"strings"
)

// Declaration is the documentation of a type and its constants.
type Declaration struct {
	Doc       string
	Fields    []string   // of a struct: the comment of each field, in order
	Constants []Constant // the exported constants of the type, in order
}

// Constant is a declared constant of a type.
type Constant struct{ Name, Doc, Value string }

// Holds reports whether the package was read as source and declares the type.
func (p *Package) Holds(obj *types.TypeName) bool {
	return p.types != nil && obj.Pkg() != nil && obj.Pkg().Path() == p.types.Path()
}

// Declaration returns the documentation of a type that the package declares.
func (p *Package) Declaration(obj *types.TypeName) *Declaration {
	d := &Declaration{}
	p.eachSpec(token.TYPE, func(gen *ast.GenDecl, spec ast.Spec) {
		s, ok := spec.(*ast.TypeSpec)
		if !ok || s.Name.Name != obj.Name() {
			return
		}
		d.Doc = specDoc(gen, s.Doc, s.Comment)
		if st, ok := s.Type.(*ast.StructType); ok {
			d.Fields = fieldDocs(st)
		}
	})
	docs := p.constantDocs()
	for _, c := range p.constantsOf(obj.Type()) {
		d.Constants = append(d.Constants, Constant{Name: c.Name(), Doc: docs[c.Name()], Value: literal(c.Val())})
	}
	return d
}

// constantDocs returns the documentation of each constant by name.
func (p *Package) constantDocs() map[string]string {
	docs := map[string]string{}
	p.eachSpec(token.CONST, func(gen *ast.GenDecl, spec ast.Spec) {
		if s, ok := spec.(*ast.ValueSpec); ok {
			for _, name := range s.Names {
				docs[name.Name] = specDoc(gen, s.Doc, s.Comment)
			}
		}
	})
	return docs
}

// constantsOf returns the exported constants of a type in the order of their
// declarations.
func (p *Package) constantsOf(t types.Type) []*types.Const {
	var found []*types.Const
	scope := p.types.Scope()
	for _, name := range scope.Names() {
		c, ok := scope.Lookup(name).(*types.Const)
		if ok && c.Exported() && types.Identical(c.Type(), t) {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *types.Const) int { return int(a.Pos() - b.Pos()) })
	return found
}

func (p *Package) eachSpec(tok token.Token, do func(*ast.GenDecl, ast.Spec)) {
	for _, file := range p.syntax {
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != tok {
				continue
			}
			for _, spec := range gen.Specs {
				do(gen, spec)
			}
		}
	}
}

// specDoc returns the comment above a declaration, or the one at the end of its line.
func specDoc(gen *ast.GenDecl, above, behind *ast.CommentGroup) string {
	if above == nil && !gen.Lparen.IsValid() {
		above = gen.Doc
	}
	if text := strings.TrimSpace(above.Text()); text != "" {
		return text
	}
	return strings.TrimSpace(behind.Text())
}

func fieldDocs(st *ast.StructType) []string {
	var docs []string
	for _, f := range st.Fields.List {
		text := strings.TrimSpace(f.Doc.Text())
		if text == "" {
			text = strings.TrimSpace(f.Comment.Text())
		}
		for range max(1, len(f.Names)) {
			docs = append(docs, text)
		}
	}
	return docs
}

// literal returns a constant's value in Go syntax.
func literal(v constant.Value) string {
	switch v.Kind() {
	case constant.String:
		return strconv.Quote(constant.StringVal(v))
	case constant.Float:
		f, _ := constant.Float64Val(v)
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return v.ExactString()
}
