package codec

import (
	"bytes"
	"fmt"
	"math/big"
	"reflect"
	"regexp/syntax"
	"unicode/utf8"
)

// MaxDigits is the maximal length of the text of a number of any size: a [big.Int],
// [big.Float] or [big.Rat], a type that embeds one, or text of digits for a type that
// contains one. Parsing takes time quadratic in the length.
const MaxDigits = 10_000

// MaxPattern is the maximal length of the text of a regular expression. Its compiled
// form can be thousands of times larger.
const MaxPattern = 1000

// Estimates of the compiled size of a regular expression in bytes: for each byte of
// text or node of syntax, for each bound of a character class, and for a class with
// case folding.
const (
	patternNode  = 200
	patternBound = 20
	foldedClass  = 16 << 10
)

// checkText returns an error for text that its type would take long to parse.
func checkText(v any, text []byte) error {
	if len(text) > MaxPattern && isPattern(v) {
		return fmt.Errorf("the regular expression has %d bytes, more than %d", len(text), MaxPattern)
	}
	if len(text) > MaxDigits && (isNumber(v) || digits(text) && holdsNumber(reflect.TypeOf(v), make(map[reflect.Type]bool))) {
		return fmt.Errorf("the number has %d digits, more than %d", len(text), MaxDigits)
	}
	return nil
}

// ownText charges text at offset at, which v decodes by its own method.
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

// chargePattern charges the compiled form of a regular expression.
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
	return err != nil || r.charge(max(patternSize(parsed)-size, 0)) // the type's own method reports a bad pattern
}

// patternSize returns the compiled size of a parsed regular expression in bytes.
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

// holdsNumber reports whether a type, not among those seen, contains a number of any
// size.
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

// digits reports whether text is a number or a list of numbers.
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
