package scan

import (
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/scanner"
	"go/token"
	"go/types"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/internal/directive"
)

// Value is a parsed literal. Generated code is made of its meaning, not of its
// source.
type Value struct {
	Type     *Type
	Nil      bool
	Lit      string        // of a basic type, or bytes given as a string: a Go literal
	Duration time.Duration // if it is a duration
	Time     time.Time     // if it is a non-zero time
	Elems    []Elem        // of a composite literal
}

// Elem is an element of a composite literal.
type Elem struct {
	Key   *Value // of a map
	Field string // of a struct
	Value *Value
}

// valuer parses the source of one default. Positions in it count from 1.
type valuer struct {
	*builder
	param  *Param
	source directive.Word
}

// defaultOf returns the value of a parameter's default, or nil after a problem.
func (b *builder) defaultOf(p *Param, source directive.Word) *Value {
	v := &valuer{builder: b, param: p, source: source}
	if p.Type.IsDuration() {
		if d, err := time.ParseDuration(source.Text); err == nil {
			return &Value{Type: p.Type, Duration: d}
		}
	}
	expr, err := parser.ParseExprFrom(token.NewFileSet(), "", source.Text, parser.SkipObjectResolution)
	var list scanner.ErrorList
	switch {
	case p.Type.IsDuration() && (err != nil || !isString(expr)):
		v.problem(1, "%s is not a duration; write a number with its unit, as in 30s, 5m or 1h30m", shorten(source.Text))
		return nil
	case errors.As(err, &list):
		v.problem(token.Pos(1+list[0].Pos.Offset), "%s is not a Go literal: %s", shorten(source.Text), list[0].Msg)
		return nil
	case err != nil:
		v.problem(1, "%s is not a Go literal: %s", shorten(source.Text), err)
		return nil
	case int(expr.End())-1 != len(source.Text):
		v.problem(expr.End(), "unexpected text after the value")
		return nil
	}
	return v.value(expr, p.Type, p.expr)
}

// problem reports a problem at a position in the default's source.
func (v *valuer) problem(pos token.Pos, format string, args ...any) {
	at := v.source.Pos + token.Pos(min(int(pos)-1, len(v.source.Text)))
	v.fail(at, "//task:default %s: %s", v.param.Name, fmt.Sprintf(format, args...))
}

// wrong reports an expression that is not a value of the type.
func (v *valuer) wrong(expr ast.Expr, t *Type, hint string) *Value {
	v.problem(expr.Pos(), "%s is not a literal of type %s%s", v.text(expr), v.conv.print(t.Go), hint)
	return nil
}

// text returns an expression as written.
func (v *valuer) text(expr ast.Expr) string {
	return shorten(v.source.Text[expr.Pos()-1 : min(int(expr.End())-1, len(v.source.Text))])
}

// shorten cuts text to fit one line of a message.
func shorten(text string) string {
	const limit = 60
	if r := []rune(text); len(r) > limit {
		return string(r[:limit]) + "…"
	}
	return text
}

// value parses an expression as a value of type t. Written is t as the source spells
// it.
func (v *valuer) value(expr ast.Expr, t *Type, written ast.Expr) *Value {
	if id, ok := expr.(*ast.Ident); ok && id.Name == "nil" {
		if t.Kind == Pointer || t.Kind == Slice || t.Kind == Map || t.Kind == Bytes || t.NilIs {
			return &Value{Type: t, Nil: true}
		}
		return v.wrong(expr, t, "")
	}
	switch {
	case t.IsDuration():
		return v.duration(expr, t)
	case t.Kind == Time && isString(expr):
		return v.time(expr, t)
	case t.Kind == Pointer:
		return v.wrong(expr, t, "; a pointer's is nil")
	case t.Kind == Bytes && isString(expr):
		return &Value{Type: t, Lit: strconv.QuoteToASCII(constant.StringVal(constantOf(expr)))}
	}
	if lit, ok := expr.(*ast.CompositeLit); ok {
		return v.composite(lit, t, written)
	}
	if basic, ok := t.Go.Underlying().(*types.Basic); ok && (t.Kind == Basic || t.Kind == Custom) {
		return v.basic(expr, t, basic)
	}
	return v.wrong(expr, t, "")
}

func isString(expr ast.Expr) bool {
	lit, ok := ast.Unparen(expr).(*ast.BasicLit)
	return ok && lit.Kind == token.STRING
}

func (v *valuer) duration(expr ast.Expr, t *Type) *Value {
	if isString(expr) {
		if d, err := time.ParseDuration(constant.StringVal(constantOf(expr))); err == nil {
			return &Value{Type: t, Duration: d}
		}
	}
	return v.wrong(expr, t, `; write it as in "1h30m"`)
}

func (v *valuer) time(expr ast.Expr, t *Type) *Value {
	at, err := time.Parse(time.RFC3339, constant.StringVal(constantOf(expr)))
	if err != nil {
		return v.wrong(expr, t, `; write it as in "2006-01-02T15:04:05Z"`)
	}
	return &Value{Type: t, Time: at.UTC()}
}

// constantOf evaluates a literal, including its sign. It returns an unknown value for
// any other expression.
func constantOf(expr ast.Expr) constant.Value {
	switch e := ast.Unparen(expr).(type) {
	case *ast.BasicLit:
		if e.Kind != token.IMAG {
			return constant.MakeFromLiteral(e.Value, e.Kind, 0)
		}
	case *ast.Ident:
		if e.Name == "true" || e.Name == "false" {
			return constant.MakeBool(e.Name == "true")
		}
	case *ast.UnaryExpr:
		x := constantOf(e.X)
		if number := x.Kind() == constant.Int || x.Kind() == constant.Float; number && (e.Op == token.SUB || e.Op == token.ADD) {
			return constant.UnaryOp(e.Op, x, 0)
		}
	}
	return constant.MakeUnknown()
}

// basic parses a literal of a basic type.
func (v *valuer) basic(expr ast.Expr, t *Type, basic *types.Basic) *Value {
	c := constantOf(expr)
	info := basic.Info()
	switch {
	case info&types.IsBoolean != 0 && c.Kind() == constant.Bool:
		return &Value{Type: t, Lit: c.String()}
	case info&types.IsString != 0 && c.Kind() == constant.String:
		return &Value{Type: t, Lit: strconv.QuoteToASCII(constant.StringVal(c))}
	case info&types.IsInteger != 0 && constant.ToInt(c).Kind() == constant.Int:
		return v.integer(expr, t, basic, constant.ToInt(c))
	case info&types.IsFloat != 0 && constant.ToFloat(c).Kind() == constant.Float:
		return v.float(expr, t, basic, constant.ToFloat(c))
	}
	return v.wrong(expr, t, "")
}

func (v *valuer) integer(expr ast.Expr, t *Type, basic *types.Basic, c constant.Value) *Value {
	bits := uint(8 * types.SizesFor("gc", "amd64").Sizeof(basic))
	low, high := constant.MakeInt64(0), constant.MakeInt64(1)
	if basic.Info()&types.IsUnsigned == 0 {
		bits--
		low = constant.UnaryOp(token.SUB, constant.Shift(high, token.SHL, bits), 0)
	}
	if constant.Compare(c, token.LSS, low) || constant.Compare(c, token.GEQ, constant.Shift(high, token.SHL, bits)) {
		v.problem(expr.Pos(), "%s does not fit in %s", v.text(expr), v.conv.print(t.Go))
		return nil
	}
	if lit, ok := expr.(*ast.BasicLit); ok && lit.Kind == token.CHAR {
		if r, exact := constant.Int64Val(c); exact {
			return &Value{Type: t, Lit: strconv.QuoteRuneToASCII(rune(r))}
		}
	}
	return &Value{Type: t, Lit: c.ExactString()}
}

func (v *valuer) float(expr ast.Expr, t *Type, basic *types.Basic, c constant.Value) *Value {
	bits := int(8 * types.SizesFor("gc", "amd64").Sizeof(basic))
	f, _ := constant.Float64Val(c)
	if bits == 32 {
		f32, _ := constant.Float32Val(c)
		f = float64(f32)
	}
	if text := strconv.FormatFloat(f, 'g', -1, bits); !strings.Contains(text, "Inf") {
		return &Value{Type: t, Lit: text}
	}
	v.problem(expr.Pos(), "%s does not fit in %s", v.text(expr), v.conv.print(t.Go))
	return nil
}
