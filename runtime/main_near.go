package runtime

import (
	"fmt"

	"github.com/taskgen/taskgen/broker"
)

// didYouMean is what an error adds after a word that is none of known: the one
// that was most likely meant, or else otherwise.
func didYouMean(word string, known []string, otherwise string) string {
	if near := closest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return otherwise
}

// closest returns the word of known that word is most likely a misspelling of,
// or "" when none is near.
func closest(word string, known []string) string {
	if len(word) > broker.MaxName {
		return "" // a misspelling of nothing, and long to compare
	}
	best, limit := "", 1+len(word)/8
	for _, k := range known {
		if d := distance(word, k); d <= limit {
			best, limit = k, d-1
		}
	}
	return best
}

// distance is the number of letters inserted, deleted, changed or swapped with
// their neighbour between a and b (optimal string alignment).
func distance(a, b string) int {
	var before, last, row []int // the rows of the table of all prefixes
	for i := range len(a) + 1 {
		before, last, row = last, row, make([]int, len(b)+1)
		for j := range row {
			switch {
			case i == 0 || j == 0:
				row[j] = i + j
				continue
			case a[i-1] == b[j-1]:
				row[j] = last[j-1]
			default:
				row[j] = 1 + min(last[j], row[j-1], last[j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
