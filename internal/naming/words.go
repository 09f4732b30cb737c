package naming

import (
	"strings"
	"unicode"
)

// Kebab writes a Go name with hyphens: dataIDs is data-ids, URLPath url-path.
func Kebab(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		runes := []rune(part)
		for i, r := range runes {
			if b.Len() > 0 && (i == 0 || beginsWord(runes, i)) {
				b.WriteByte('-')
			}
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// Unexported writes an exported Go name with its first word in lower case: DataID is
// dataID, URLPath urlPath.
func Unexported(name string) string {
	runes := []rune(name)
	n := 1
	for n < len(runes) && runes[n] != '_' && !beginsWord(runes, n) {
		n++
	}
	return strings.ToLower(string(runes[:n])) + string(runes[n:])
}

// beginsWord reports whether r[i] is a capital that begins a word: behind a small letter
// or digit always, behind another capital when a small letter follows that is not the
// plural s of an initialism. i is not 0.
func beginsWord(r []rune, i int) bool {
	small := func(j int) bool { return j < len(r) && unicode.IsLower(r[j]) }
	switch {
	case !unicode.IsUpper(r[i]):
		return false
	case !unicode.IsUpper(r[i-1]):
		return true
	}
	plural := i+1 < len(r) && r[i+1] == 's' && !small(i+2)
	return small(i+1) && !plural
}
