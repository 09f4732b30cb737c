package markup

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"text/template/parse"
)

// command evaluates a command: a value, or a function and its arguments. last is the value of
// the command before it, if there is one.
func (s *state) command(c *parse.CommandNode, dot reflect.Value, last []reflect.Value) (reflect.Value, error) {
	first, given := c.Args[0], c.Args[1:]
	if id, ok := first.(*parse.IdentifierNode); ok {
		if id.Ident == "and" || id.Ident == "or" {
			return s.lazy(id.Ident == "or", given, dot, last)
		}
		return s.apply(id.Ident, reflect.ValueOf(s.template.funcs[id.Ident]), given, dot, last)
	}
	if len(given) == 0 && len(last) == 0 {
		return s.argument(first, dot)
	}
	v, err := s.argument(first, dot)
	if err != nil {
		return v, err
	}
	if v = plain(v); v.Kind() != reflect.Func {
		return v, fmt.Errorf("%s has arguments, and is no function", first)
	}
	return s.apply(first.String(), v, given, dot, last)
}

// lazy evaluates and, or: no more arguments than decide it.
func (s *state) lazy(isOr bool, given []parse.Node, dot reflect.Value, last []reflect.Value) (v reflect.Value, err error) {
	for _, n := range given {
		if v, err = s.argument(n, dot); err != nil || truth(v) == isOr {
			return v, err
		}
	}
	if len(last) > 0 {
		v = last[0]
	}
	return v, nil
}

// argument evaluates an argument.
func (s *state) argument(n parse.Node, dot reflect.Value) (reflect.Value, error) {
	switch n := n.(type) {
	case *parse.DotNode:
		return dot, nil
	case *parse.NilNode:
		return reflect.Value{}, errors.New("nil is no value")
	case *parse.BoolNode:
		return reflect.ValueOf(n.True), nil
	case *parse.StringNode:
		return reflect.ValueOf(n.Text), nil
	case *parse.NumberNode:
		return number(n)
	case *parse.PipeNode:
		return s.pipeline(n, dot)
	case *parse.FieldNode:
		return s.fields(dot, n.Ident)
	case *parse.ChainNode:
		v, err := s.argument(n.Node, dot)
		if err != nil {
			return v, err
		}
		return s.fields(v, n.Field)
	case *parse.VariableNode:
		known, err := s.variable(n.Ident[0])
		if err != nil {
			return reflect.Value{}, err
		}
		return s.fields(known.value, n.Ident[1:])
	case *parse.IdentifierNode:
		return s.apply(n.Ident, reflect.ValueOf(s.template.funcs[n.Ident]), nil, dot, nil)
	}
	return reflect.Value{}, fmt.Errorf("%s cannot be evaluated", n)
}

func number(n *parse.NumberNode) (reflect.Value, error) {
	switch {
	case n.IsFloat && strings.ContainsAny(n.Text, ".eE"):
		return reflect.ValueOf(n.Float64), nil
	case n.IsInt:
		return reflect.ValueOf(int(n.Int64)), nil
	}
	return reflect.Value{}, fmt.Errorf("%s is no number that templates have", n)
}

// fields evaluates a chain of fields of structs and keys of maps.
func (s *state) fields(v reflect.Value, names []string) (reflect.Value, error) {
	for i, name := range names {
		next, err := field(v, name)
		if err != nil {
			return next, err
		}
		if f := plain(next); f.Kind() == reflect.Func && i < len(names)-1 {
			return next, fmt.Errorf("%s is a function", name)
		}
		v = next
	}
	return v, nil
}

// field returns a field of a struct or a function of the value, or the member of a map.
func field(v reflect.Value, name string) (reflect.Value, error) {
	v = plain(v)
	if !v.IsValid() {
		return v, fmt.Errorf("%s is asked of no value", name)
	}
	if f, ok := v.Interface().(Functions); ok {
		if fn := f.Function(name); fn != nil {
			return called(reflect.ValueOf(fn)), nil
		}
	}
	if z, ok := v.Interface().(interface{ IsZero() bool }); ok && name == "IsZero" {
		return reflect.ValueOf(z.IsZero()), nil // of times
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v, fmt.Errorf("%s is asked of a nil %s", name, v.Type())
		}
		v = plain(v.Elem())
	}
	switch v.Kind() {
	case reflect.Struct:
		if f, ok := v.Type().FieldByName(name); ok && f.IsExported() {
			return v.FieldByIndexErr(f.Index)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String {
			if member := v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key())); member.IsValid() {
				return member, nil
			}
			return v, fmt.Errorf("the map has no key %q", name)
		}
	}
	return v, fmt.Errorf("a %s has no field %s", v.Type(), name)
}

// called returns what a function without parameters returns, and a function with some itself.
func called(f reflect.Value) reflect.Value {
	if f.Type().NumIn() > 0 {
		return f
	}
	return f.Call(nil)[0]
}

var errorType = reflect.TypeFor[error]()

// apply calls a function.
func (s *state) apply(name string, f reflect.Value, given []parse.Node, dot reflect.Value, last []reflect.Value) (reflect.Value, error) {
	typ := f.Type()
	n, fixed := len(given)+len(last), typ.NumIn()
	if typ.IsVariadic() {
		fixed--
	}
	if n < fixed || n > fixed && !typ.IsVariadic() {
		return reflect.Value{}, fmt.Errorf("%s has %d arguments, and needs %d", name, n, fixed)
	}
	args := make([]reflect.Value, 0, n)
	for i := range n {
		want := typ.In(min(i, typ.NumIn()-1))
		if typ.IsVariadic() && i >= fixed {
			want = want.Elem()
		}
		var v reflect.Value
		var err error
		if i < len(given) {
			v, err = s.argument(given[i], dot)
		} else {
			v = last[0]
		}
		if err == nil {
			v, err = convert(v, want)
		}
		if err != nil {
			return v, fmt.Errorf("argument %d of %s: %w", i+1, name, err)
		}
		args = append(args, v)
	}
	results := f.Call(args)
	if len(results) == 2 && results[1].Type() == errorType && !results[1].IsNil() {
		return results[0], fmt.Errorf("%s: %w", name, results[1].Interface().(error))
	}
	return results[0], nil
}

// convert returns a value as a parameter of a function.
func convert(v reflect.Value, want reflect.Type) (reflect.Value, error) {
	if !v.IsValid() {
		switch want.Kind() {
		case reflect.Interface, reflect.Pointer, reflect.Map, reflect.Slice, reflect.Func:
			return reflect.Zero(want), nil
		}
		return v, fmt.Errorf("no value, and a %s is needed", want)
	}
	if v.Type().AssignableTo(want) {
		return v, nil
	}
	if inner := plain(v); inner.IsValid() && inner.Type() != v.Type() {
		return convert(inner, want)
	}
	switch {
	case v.Kind() == reflect.Pointer && !v.IsNil() && v.Type().Elem().AssignableTo(want):
		return v.Elem(), nil
	case v.CanAddr() && reflect.PointerTo(v.Type()).AssignableTo(want):
		return v.Addr(), nil
	case v.Kind() == reflect.String && want.Kind() == reflect.String,
		v.CanInt() && want.Kind() >= reflect.Int && want.Kind() <= reflect.Int64 && !reflect.Zero(want).OverflowInt(v.Int()) && v.Type() == reflect.TypeFor[int](),
		v.CanInt() && (want.Kind() == reflect.Float32 || want.Kind() == reflect.Float64) && v.Type() == reflect.TypeFor[int]():
		return v.Convert(want), nil // of a constant
	}
	return v, fmt.Errorf("a %s, and a %s is needed", v.Type(), want)
}
