package codec

import (
	"fmt"
	"math/big"
)

// MaxDigits is how long the text of a number of any size may be: that of a
// [big.Int], [big.Float] or [big.Rat], of what embeds one, and any text of
// digits alone. To read it takes time that grows with the square of its length.
const MaxDigits = 10_000

// MaxPattern is how long the text of a regular expression may be: what it
// compiles to is thousands of times larger.
const MaxPattern = 1000

// patternCost is how many bytes a byte of a regular expression compiles to at
// most, as a{1000} does.
const patternCost = 16 << 10

// checkText refuses text that would take its type long to read.
func checkText(v any, text []byte) error {
	if len(text) > MaxPattern && isPattern(v) {
		return fmt.Errorf("a regular expression of %d bytes, at most %d are read", len(text), MaxPattern)
	}
	if len(text) > MaxDigits && (isNumber(v) || digits(text)) {
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
	if isPattern(v) && !r.charge(len(text)*patternCost) {
		return false
	}
	return r.own(len(text), partsOf(v))
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
