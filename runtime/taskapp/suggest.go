package taskapp

import (
	"fmt"

	"github.com/taskgen/taskgen/internal/suggest"
)

// didYouMean returns the end of an error about an unknown word: the known word that was
// most likely meant, or otherwise if there is none.
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
