package taskapp

import (
	"fmt"

	"github.com/taskgen/taskgen/internal/suggest"
)

// didYouMean is what an error adds after a word that is none of known: the one
// that was most likely meant, or else otherwise.
func didYouMean(word string, known []string, otherwise string) string {
	if near := closest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return otherwise
}

// closest returns the word of known that word is most likely a misspelling of, or
// "" when none is near.
func closest(word string, known []string) string {
	return suggest.Closest(word, known, 1+len(word)/8)
}
