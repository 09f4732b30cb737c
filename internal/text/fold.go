package text

import (
	"strings"
	"unicode"
)

// maxFolded is how many runes of a line Fold keeps.
const maxFolded = 200

// Fold returns the first line of a text with each number and each id as #, so that texts that
// differ in these alone are the same. An id is a UUID, or a word of eight letters and digits
// or more that has two digits, such as a hash.
func Fold(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	var b strings.Builder
	for len(line) > 0 {
		n := wordLen(line)
		switch {
		case isUUID(line):
			b.WriteByte('#')
			line = line[36:]
			continue
		case n == 0:
			n = strings.IndexFunc(line, isAlnum)
			if n < 0 {
				n = len(line)
			}
			b.WriteString(line[:n])
		default:
			foldWord(&b, line[:n])
		}
		line = line[n:]
	}
	folded := []rune(strings.ToValidUTF8(strings.TrimSpace(b.String()), string(unicode.ReplacementChar)))
	return string(folded[:min(len(folded), maxFolded)])
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlnum(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// wordLen returns the length of the letters and digits at the start of s. A point between
// digits belongs to them.
func wordLen(s string) (n int) {
	for n < len(s) && (isAlnum(rune(s[n])) || s[n] == '.' && n > 0 && isDigit(s[n-1]) && n+1 < len(s) && isDigit(s[n+1])) {
		n++
	}
	return n
}

// foldWord writes a word with its numbers as #.
func foldWord(b *strings.Builder, word string) {
	digits := 0
	for i := range len(word) {
		if isDigit(word[i]) {
			digits++
		}
	}
	if digits >= 2 && len(word) >= 8 && !strings.Contains(word, ".") {
		b.WriteByte('#')
		return
	}
	in := false // a number
	for i := range len(word) {
		isNumber := isDigit(word[i]) || word[i] == '.'
		if isNumber && !in {
			b.WriteByte('#')
		}
		if in = isNumber; !in {
			b.WriteByte(word[i])
		}
	}
}

// isUUID reports whether s begins with a UUID.
func isUUID(s string) bool {
	if len(s) < 36 || len(s) > 36 && isAlnum(rune(s[36])) {
		return false
	}
	for i := range 36 {
		isHex := isDigit(s[i]) || s[i]|0x20 >= 'a' && s[i]|0x20 <= 'f'
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash && s[i] != '-' || !dash && !isHex {
			return false
		}
	}
	return true
}
