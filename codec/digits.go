package codec

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"regexp/syntax"
	"unicode/utf8"
)

// MaxDigits is how long the text of a number of any size may be: that of a
// [big.Int], [big.Float] or [big.Rat], of what embeds one, and text of digits
// alone of a type that holds one. To read it takes time that grows with the
// square of its length.
const MaxDigits = 10_000

// MaxPattern is how long the text of a regular expression may be: what it
// compiles to can be thousands of times larger.
const MaxPattern = 1000

// What a regular expression is taken to compile to, in bytes: for each byte of
// its text or node of its syntax, for each bound of a class of characters, and
// for a class whose characters of other cases are looked up one by one.
const (
	patternNode  = 200
	patternBound = 20
	foldedClass  = 16 << 10
)

// checkText refuses text that would take its type long to read.
func checkText(v any, text []byte) error {
	if len(text) > MaxPattern && isPattern(v) {
		return fmt.Errorf("a regular expression of %d bytes, at most %d are read", len(text), MaxPattern)
	}
	if len(text) > MaxDigits && (isNumber(v) || digits(text) && holdsNumber(reflect.TypeOf(v), make(map[reflect.Type]bool))) {
		return fmt.Errorf("a number of %d digits, at most %d are read", len(text), MaxDigits)
	}
	return nil
}

// ownText is own for a type v that reads text, which began at the offset at.
func (r *Reader) ownText(at int, v any, text []byte) bool {
	if err := checkText(v, text); err != nil {
		r.pos = at
		r.failf("%s: %s", typeName(v), err)
		return false
	}
	if isPattern(v) && !r.chargePattern(text) {
		return false
	}
	return r.own(len(text), partsOf(v))
}

// chargePattern charges what a regular expression compiles to.
func (r *Reader) chargePattern(text []byte) bool {
	size := patternNode * len(text)
	other := func(c rune) bool { return c >= utf8.RuneSelf }
	if bytes.Contains(text, []byte("(?")) && (bytes.ContainsFunc(text, other) || bytes.Contains(text, []byte(`\x{`))) {
		size += foldedClass * bytes.Count(text, []byte("["))
	}
	if !r.charge(size) {
		return false
	}
	parsed, err := syntax.Parse(string(text), syntax.Perl)
	return err != nil || r.charge(max(patternSize(parsed)-size, 0)) // the type's method says what is wrong
}

// patternSize returns how many bytes a parsed regular expression compiles to.
func patternSize(re *syntax.Regexp) int {
	size := patternNode + patternBound*len(re.Rune)
	if re.Op == syntax.OpLiteral {
		size = patternNode * len(re.Rune)
	}
	for _, sub := range re.Sub {
		size += patternSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		size = product(size, max(re.Min, re.Max, 1))
	}
	return size
}

// isNumber reports whether v is or embeds a number of any size.
func isNumber(v any) bool {
	switch v.(type) {
	case interface {
		SetString(string, int) (*big.Int, bool)
	}, interface {
		SetString(string) (*big.Float, bool)
	}, interface {
		SetString(string) (*big.Rat, bool)
	}:
		return true
	}
	return false
}

// holdsNumber reports whether a type, which is none of those seen, has a number
// of any size in it.
func holdsNumber(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] {
		return false
	}
	seen[t] = true
	switch t {
	case reflect.TypeFor[big.Int](), reflect.TypeFor[big.Float](), reflect.TypeFor[big.Rat]():
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return holdsNumber(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if holdsNumber(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// isPattern reports whether v is or embeds a regular expression.
func isPattern(v any) bool {
	_, ok := v.(interface {
		NumSubexp() int
		LiteralPrefix() (string, bool)
	})
	return ok
}

// digits reports whether text is a number, or a list of them.
func digits(text []byte) bool {
	for _, c := range text {
		switch {
		case '0' <= c && c <= '9', c == '.', c == '-', c == '+', c == '_', c == '/', c == 'e', c == 'E':
		default:
			return false
		}
	}
	return true
}
