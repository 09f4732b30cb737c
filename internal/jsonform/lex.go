package jsonform

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// lexer reads the tokens of a JSON text. After the first error it is at the end.
type lexer struct {
	in   []byte
	pos  int
	bad  string // what is wrong; "" if nothing is
	want string
}

// peek returns the first byte of the next token, or 0 at the end.
func (l *lexer) peek() byte {
	for l.pos < len(l.in) {
		switch c := l.in[l.pos]; c {
		case ' ', '\t', '\r', '\n':
			l.pos++
		default:
			return c
		}
	}
	return 0
}

// fail notes what is wrong at the present place.
func (l *lexer) fail(want, found string) {
	if l.bad == "" {
		l.want, l.bad = want, found
	}
}

// expect consumes c.
func (l *lexer) expect(c byte, want string) bool {
	if l.bad != "" || l.peek() != c || l.pos == len(l.in) {
		l.fail(want, l.here())
		return false
	}
	l.pos++
	return true
}

// here describes the next byte.
func (l *lexer) here() string {
	if l.peek() == 0 && l.pos >= len(l.in) {
		return "the end of the JSON"
	}
	r, _ := utf8.DecodeRune(l.in[l.pos:])
	return strconv.QuoteRune(r)
}

// kind describes the next value.
func (l *lexer) kind() string {
	switch c := l.peek(); {
	case c == '"':
		return "a string"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == 't', c == 'f':
		return "a bool"
	case c == 'n':
		return "null"
	case c == '-', c >= '0' && c <= '9':
		return "a number"
	}
	return l.here()
}

// word consumes a literal name.
func (l *lexer) word(name string) bool {
	if l.bad != "" {
		return false
	}
	if !bytes.HasPrefix(l.in[l.pos:], []byte(name)) {
		l.fail("a value", l.here())
		return false
	}
	l.pos += len(name)
	return true
}

// number returns the text of a number.
func (l *lexer) number() (string, bool) {
	l.peek()
	start := l.pos
	if l.pos < len(l.in) && l.in[l.pos] == '-' {
		l.pos++
	}
	switch {
	case l.pos < len(l.in) && l.in[l.pos] == '0':
		l.pos++
	case !l.digits():
		return "", false
	}
	if l.pos < len(l.in) && l.in[l.pos] == '.' {
		l.pos++
		if !l.digits() {
			return "", false
		}
	}
	if l.pos < len(l.in) && (l.in[l.pos] == 'e' || l.in[l.pos] == 'E') {
		l.pos++
		if l.pos < len(l.in) && (l.in[l.pos] == '+' || l.in[l.pos] == '-') {
			l.pos++
		}
		if !l.digits() {
			return "", false
		}
	}
	return string(l.in[start:l.pos]), true
}

// digits consumes one or more.
func (l *lexer) digits() bool {
	start := l.pos
	for l.pos < len(l.in) && l.in[l.pos] >= '0' && l.in[l.pos] <= '9' {
		l.pos++
	}
	if start == l.pos {
		l.fail("a digit", l.here())
	}
	return start < l.pos
}

// str returns the bytes of a string. They may be a part of the input.
func (l *lexer) str() ([]byte, bool) {
	if !l.expect('"', "a string") {
		return nil, false
	}
	for at := l.pos; at < len(l.in); {
		switch c := l.in[at]; {
		case c == '"':
			text := l.in[l.pos:at]
			l.pos = at + 1
			return text, true
		case c == '\\':
			return l.escaped(at)
		case c < ' ':
			l.pos = at
			l.fail("an escaped control character", strconv.QuoteRune(rune(c)))
			return nil, false
		case c < utf8.RuneSelf:
			at++
		default:
			_, size := utf8.DecodeRune(l.in[at:])
			if size == 1 {
				l.pos = at
				l.fail("UTF-8", fmt.Sprintf("the byte %#x", c))
				return nil, false
			}
			at += size
		}
	}
	l.pos = len(l.in)
	l.fail(`the end of a string, "`, l.here())
	return nil, false
}

// escaped returns the bytes of a string whose first escape is at the offset.
func (l *lexer) escaped(at int) ([]byte, bool) {
	text := append(make([]byte, 0, at-l.pos+64), l.in[l.pos:at]...)
	l.pos = at
	for l.pos < len(l.in) {
		switch c := l.in[l.pos]; {
		case c == '"':
			l.pos++
			return text, true
		case c == '\\':
			var ok bool
			if text, ok = l.escape(text); !ok {
				return nil, false
			}
		case c < ' ':
			l.fail("an escaped control character", strconv.QuoteRune(rune(c)))
			return nil, false
		case c < utf8.RuneSelf:
			text = append(text, c)
			l.pos++
		default:
			_, size := utf8.DecodeRune(l.in[l.pos:])
			if size == 1 {
				l.fail("UTF-8", fmt.Sprintf("the byte %#x", c))
				return nil, false
			}
			text = append(text, l.in[l.pos:l.pos+size]...)
			l.pos += size
		}
	}
	l.fail(`the end of a string, "`, l.here())
	return nil, false
}

// escape appends the character of an escape.
func (l *lexer) escape(text []byte) ([]byte, bool) {
	const plain, means = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if l.pos+1 < len(l.in) {
		c := l.in[l.pos+1]
		if i := bytes.IndexByte([]byte(plain), c); i >= 0 {
			l.pos += 2
			return append(text, means[i]), true
		}
		if r, ok := l.hex(l.pos); c == 'u' && ok {
			l.pos += 6
			if !utf16.IsSurrogate(r) {
				return utf8.AppendRune(text, r), true
			}
			low, _ := l.hex(l.pos)
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				l.pos += 6
				return utf8.AppendRune(text, r), true
			}
			l.fail("a pair of surrogates", "one alone")
			return nil, false
		}
	}
	l.fail("an escape of JSON", `a \ without one`)
	return nil, false
}

// hex returns the number of \uXXXX at an offset.
func (l *lexer) hex(at int) (rune, bool) {
	if at+6 > len(l.in) || l.in[at] != '\\' || l.in[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range l.in[at+2 : at+6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// skip consumes a value of any kind.
func (l *lexer) skip(depth int) bool {
	if depth > maxNesting {
		l.fail(fmt.Sprintf("at most %d levels", maxNesting), "more")
		return false
	}
	switch c := l.peek(); {
	case c == '"':
		_, ok := l.str()
		return ok
	case c == '{':
		return l.skipAll('}', func() bool {
			_, ok := l.str()
			return ok && l.expect(':', "a colon") && l.skip(depth+1)
		})
	case c == '[':
		return l.skipAll(']', func() bool { return l.skip(depth + 1) })
	case c == 't':
		return l.word("true")
	case c == 'f':
		return l.word("false")
	case c == 'n':
		return l.word("null")
	case c == '-', c >= '0' && c <= '9':
		_, ok := l.number()
		return ok
	}
	l.fail("a value", l.here())
	return false
}

// skipAll consumes the rest of an array or object.
func (l *lexer) skipAll(end byte, one func() bool) bool {
	for more := l.open(end); more; more = l.next(end) {
		if !one() {
			return false
		}
	}
	return l.bad == ""
}

// open consumes the first byte of an array or object, and its last one if it is empty. It
// reports whether an element follows.
func (l *lexer) open(end byte) bool {
	l.pos++
	if l.peek() == end {
		l.pos++
		return false
	}
	return true
}

// next consumes what is between elements, or behind the last one.
func (l *lexer) next(end byte) bool {
	if l.bad != "" {
		return false
	}
	switch l.peek() {
	case ',':
		l.pos++
		return true
	case end:
		l.pos++
		return false
	}
	l.fail(fmt.Sprintf("a comma or %c", end), l.here())
	return false
}
