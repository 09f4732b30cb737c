// Package suggest finds the known word that a misspelled one was most likely
// meant to be.
package suggest

// maxWord is the length in bytes beyond which a word is compared with none.
const maxWord = 128

// Closest returns the word of known with the fewest edits from word, the first of
// several. It returns "" if all of them need more than maxEdits. An edit inserts,
// deletes or changes one byte, or swaps two neighbours.
func Closest(word string, known []string, maxEdits int) string {
	if len(word) > maxWord {
		return ""
	}
	best := ""
	for _, k := range known {
		if n := edits(word, k); n <= maxEdits {
			best, maxEdits = k, n-1
		}
	}
	return best
}

// edits counts the edits between a and b (optimal string alignment distance).
func edits(a, b string) int {
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
