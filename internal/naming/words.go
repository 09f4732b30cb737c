package naming

import (
	"strings"
	"unicode"
)

// Words splits a Go name into its words: HTTPFetch is HTTP and Fetch, FetchURLs2 is
// Fetch and URLs2. Underscores separate words and are dropped.
func Words(name string) []string {
	var words []string
	for part := range strings.SplitSeq(name, "_") {
		r := []rune(part)
		start := 0
		for i := 1; i < len(r); i++ {
			if beginsWord(r, i) {
				words = append(words, string(r[start:i]))
				start = i
			}
		}
		if start < len(r) {
			words = append(words, string(r[start:]))
		}
	}
	return words
}

// Kebab writes a Go name with hyphens: dataIDs is data-ids, URLPath url-path.
func Kebab(name string) string { return strings.ToLower(strings.Join(Words(name), "-")) }

// Unexported writes a Go name with its first word in lower case: DataID is dataID,
// HTTPFetch httpFetch.
func Unexported(name string) string {
	if w := Words(name); len(w) > 0 && strings.HasPrefix(name, w[0]) {
		return strings.ToLower(w[0]) + name[len(w[0]):]
	}
	return name
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
