package secret

import (
	"html"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// mostUnescapings is how often escapes are undone: a URL within a URL within JSON.
	mostUnescapings = 3
	// longestEscape is that of Go's \U0010ffff, and of what HTML calls a character.
	longestEscape = 12
)

// unescaped is a text with its escapes undone, however they were chosen: programs differ
// in which bytes they escape, and in the case of hexadecimal digits.
type unescaped struct {
	text string
	at   []int32 // where each byte of text came from in the original, and the end
}

// identity is a text as it is.
func identity(text string) unescaped {
	if !escaped(text) || len(text) > math.MaxInt32 {
		return unescaped{text: text}
	}
	at := make([]int32, len(text)+1)
	for i := range at {
		at[i] = int32(i)
	}
	return unescaped{text, at}
}

// escaped reports whether a text may have escapes.
func escaped(text string) bool { return strings.ContainsAny(text, `%\&+`) }

// unescape undoes one layer of escapes; spaces has + stand for one, as in forms of HTML.
// The beginning of an escape at the end of a text that was cut is left out. It returns
// false if there was no escape.
func (u unescaped) unescape(spaces, cut bool) (unescaped, bool) {
	if u.at == nil || !escaped(u.text) {
		return u, false
	}
	var b strings.Builder
	at := make([]int32, 0, len(u.text)+1)
	found := false
	for i := 0; i < len(u.text); {
		char, n := escapeAt(u.text[i:])
		switch {
		case n > 0:
		case spaces && u.text[i] == '+':
			char, n = " ", 1
		case cut && begun(u.text[i:]):
			i = len(u.text)
			continue
		default:
			b.WriteByte(u.text[i])
			at = append(at, u.at[i])
			i++
			continue
		}
		found = true
		b.WriteString(char)
		for range len(char) {
			at = append(at, u.at[i])
		}
		i += n
	}
	return unescaped{b.String(), append(at, u.at[len(u.text)])}, found
}

// begun reports whether a text that was cut may end within the escape it begins with.
func begun(text string) bool {
	return len(text) < longestEscape && strings.IndexByte(`%\&`, text[0]) >= 0
}

// escapeAt returns what the escape stands for with which a text begins, and its length;
// 0 if it begins with none.
func escapeAt(text string) (char string, n int) {
	switch {
	case len(text) < 2:
		return "", 0
	case text[0] == '%':
		return byteOf(text, 1, 2, 16)
	case text[0] == '&':
		return entity(text)
	case text[0] != '\\':
		return "", 0
	}
	switch text[1] {
	case 'x':
		return byteOf(text, 2, 2, 16)
	case '0', '1', '2', '3':
		return byteOf(text, 1, 3, 8)
	case 'u', 'U':
		return character(text)
	case '"', '\'', '\\', '/':
		return text[1:2], 2
	}
	if i := strings.IndexByte("abfnrtv", text[1]); i >= 0 {
		return "\a\b\f\n\r\t\v"[i : i+1], 2
	}
	return "", 0
}

// byteOf reads a byte of so many digits.
func byteOf(text string, from, digits, base int) (string, int) {
	n, ok := number(text, from, digits, base)
	if !ok || n > 0xff {
		return "", 0
	}
	return string([]byte{byte(n)}), from + digits
}

func number(text string, from, digits, base int) (uint64, bool) {
	if len(text) < from+digits || text[from] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(text[from:from+digits], base, 32)
	return n, err == nil
}

// character reads \u1234, also two of them for one character, and \U00012345.
func character(text string) (string, int) {
	digits := 4
	if text[1] == 'U' {
		digits = 8
	}
	n, ok := number(text, 2, digits, 16)
	if !ok || n > utf8.MaxRune {
		return "", 0
	}
	c, size := rune(n), 2+digits
	if utf16.IsSurrogate(c) && strings.HasPrefix(text[size:], `\u`) {
		if low, ok := number(text, size+2, 4, 16); ok {
			return string(utf16.DecodeRune(c, rune(low))), size + 6
		}
	}
	return string(c), size
}

// entity reads &amp; and &#38; and &#x26;.
func entity(text string) (string, int) {
	end := strings.IndexByte(text[:min(len(text), longestEscape)], ';')
	if end < 0 {
		return "", 0
	}
	char := html.UnescapeString(text[:end+1])
	if char == text[:end+1] {
		return "", 0
	}
	return char, end + 1
}
