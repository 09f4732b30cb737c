package markup

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
)

// builtins returns the functions that all templates have. Of and, or it has only the names:
// they evaluate no more arguments than decide them.
func builtins() map[string]any {
	return map[string]any{
		"and": func(...any) any { return nil }, "or": func(...any) any { return nil },
		"not": func(v any) bool { return !truth(reflect.ValueOf(v)) },
		"len": length, "index": index, "print": fmt.Sprint, "printf": fmt.Sprintf,
		"eq": equal,
		"ne": func(a, b any) (bool, error) { same, err := equal(a, b); return !same, err },
		"lt": func(a, b any) (bool, error) { n, err := compare(a, b); return n < 0, err },
		"le": func(a, b any) (bool, error) { n, err := compare(a, b); return n <= 0, err },
		"gt": func(a, b any) (bool, error) { n, err := compare(a, b); return n > 0, err },
		"ge": func(a, b any) (bool, error) { n, err := compare(a, b); return n >= 0, err },
	}
}

func length(of any) (int, error) {
	v := reflect.ValueOf(of)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String, reflect.Array, reflect.Slice, reflect.Map:
		return v.Len(), nil
	}
	return 0, fmt.Errorf("len of a %T", of)
}

// index returns a member of a slice, an array or a map, or of one within.
func index(of any, keys ...any) (any, error) {
	for _, key := range keys {
		v := reflect.ValueOf(of)
		for v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		k := reflect.ValueOf(key)
		switch v.Kind() {
		case reflect.Slice, reflect.Array:
			if !k.CanInt() || k.Int() < 0 || k.Int() >= int64(v.Len()) {
				return nil, fmt.Errorf("index %v of %d members", key, v.Len())
			}
			of = v.Index(int(k.Int())).Interface()
		case reflect.Map:
			if !k.IsValid() || !k.Type().ConvertibleTo(v.Type().Key()) || k.Kind() != v.Type().Key().Kind() {
				return nil, fmt.Errorf("key %v of a %s", key, v.Type())
			}
			member := v.MapIndex(k.Convert(v.Type().Key()))
			if !member.IsValid() {
				member = reflect.Zero(v.Type().Elem())
			}
			of = member.Interface()
		default:
			return nil, fmt.Errorf("index of a %T", of)
		}
	}
	return of, nil
}

var errCompare = errors.New("values of these types cannot be compared")

// equal reports whether a value is one of some others.
func equal(a any, others ...any) (bool, error) {
	if len(others) == 0 {
		return false, errors.New("eq needs something to compare with")
	}
	for _, b := range others {
		x, y := reflect.ValueOf(a), reflect.ValueOf(b)
		if x.Kind() == reflect.Bool && y.Kind() == reflect.Bool {
			if x.Bool() == y.Bool() {
				return true, nil
			}
			continue
		}
		n, err := order(x, y)
		if err != nil {
			return false, err
		}
		if n == 0 {
			return true, nil
		}
	}
	return false, nil
}

func compare(a, b any) (int, error) { return order(reflect.ValueOf(a), reflect.ValueOf(b)) }

// order compares numbers, or strings.
func order(a, b reflect.Value) (int, error) {
	switch {
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int()), nil
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint()), nil
	case a.CanInt() && b.CanUint():
		if a.Int() < 0 {
			return -1, nil
		}
		return cmp.Compare(uint64(a.Int()), b.Uint()), nil
	case a.CanUint() && b.CanInt():
		n, err := order(b, a)
		return -n, err
	case a.CanFloat() && b.CanFloat():
		return cmp.Compare(a.Float(), b.Float()), nil
	case a.Kind() == reflect.String && b.Kind() == reflect.String:
		return cmp.Compare(a.String(), b.String()), nil
	}
	return 0, errCompare
}
