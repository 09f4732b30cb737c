package jsonform

import (
	"cmp"
	"strconv"
	"strings"
)

// maxSafe is the largest integer that a JSON reader with 64-bit floats tells from its
// neighbours.
const maxSafe = 1<<53 - 1

// maxExponent bounds the text of exponents: beyond it no number but 0 is an integer of 64
// bits.
const maxExponent = 6

// integral returns the decimal digits of a JSON number that is an integer, with a sign if
// it is negative. It returns "" if it has a fraction, and ok is false if it is longer than
// any integer of 64 bits.
func integral(number string) (digits string, ok bool) {
	if !strings.ContainsAny(number, ".eE") {
		return minusNoZero(number), true
	}
	mantissa, exp := number, ""
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		mantissa, exp = number[:i], number[i+1:]
	}
	negative := strings.HasPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(mantissa, "-"), ".")
	trimmed := strings.TrimRight(whole+fraction, "0")
	if trimmed == "" {
		return "0", true
	}
	sign := strings.HasPrefix(exp, "-")
	exp = strings.TrimLeft(strings.TrimLeft(exp, "+-"), "0")
	if len(exp) > maxExponent {
		return "", sign // a tiny fraction, or a huge number
	}
	scale, _ := strconv.Atoi("0" + exp)
	if sign {
		scale = -scale
	}
	zeros := len(whole) + scale - len(trimmed)
	if zeros < 0 {
		return "", true
	}
	trimmed = strings.TrimLeft(trimmed, "0")
	const longest = 20 // digits of the largest uint64
	if len(trimmed)+zeros > longest {
		return "", false
	}
	digits = trimmed + strings.Repeat("0", zeros)
	if negative {
		digits = "-" + digits
	}
	return digits, true
}

// minusNoZero returns 0 for -0.
func minusNoZero(digits string) string {
	if digits == "-0" {
		return "0"
	}
	return digits
}

// decimal reports whether a string is an integer as it is written: digits without leading
// zeros, with a minus if it is negative.
func decimal(s string) bool {
	s, negative := strings.CutPrefix(s, "-")
	if s == "" || s[0] == '0' && (negative || len(s) > 1) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// integer is the value of an integer type: negative ones in two's complement.
type integer struct {
	bits     uint64
	negative bool
}

// parseInteger returns the integer of decimal digits if it is one from low to high.
func parseInteger(digits string, low int64, high uint64) (v integer, ok bool) {
	if strings.HasPrefix(digits, "-") {
		n, err := strconv.ParseInt(digits, 10, 64)
		return integer{uint64(n), true}, err == nil && n >= low
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return integer{n, false}, err == nil && n <= high
}

// compare orders integers.
func (v integer) compare(other integer) int {
	if v.negative != other.negative {
		if v.negative {
			return -1
		}
		return 1
	}
	return cmp.Compare(v.bits, other.bits)
}
