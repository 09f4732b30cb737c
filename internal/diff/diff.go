// Package diff writes what sets two texts apart as a unified diff.
package diff

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// context is how many lines around a change are shown.
const context = 3

// maxEdits bounds the search for the shortest difference, whose cost grows
// with its square; beyond it all that lies between the common beginning and
// the common end counts as changed.
const maxEdits = 2000

// Unified returns the unified diff that makes new of old, or nil when they are
// equal. The names stand in its first two lines.
func Unified(oldName, newName string, old, new []byte) []byte {
	if bytes.Equal(old, new) {
		return nil
	}
	a, b := lines(old), lines(new)
	var out bytes.Buffer
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	for _, h := range hunks(edits(a, b)) {
		h.write(&out, a, b)
	}
	return out.Bytes()
}

// lines splits a text behind its newlines.
func lines(text []byte) []string {
	if len(text) == 0 {
		return nil
	}
	all := strings.SplitAfter(string(text), "\n")
	if all[len(all)-1] == "" {
		all = all[:len(all)-1]
	}
	return all
}

// edit replaces a's lines from a0 to a1 by b's lines from b0 to b1.
type edit struct{ a0, a1, b0, b1 int }

// edits finds a short list of edits that makes b of a.
func edits(a, b []string) []edit {
	start := 0
	for start < len(a) && start < len(b) && a[start] == b[start] {
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	found := shortest(a[start:len(a)-end], b[start:len(b)-end])
	for i := range found {
		e := &found[i]
		e.a0, e.a1, e.b0, e.b1 = e.a0+start, e.a1+start, e.b0+start, e.b1+start
	}
	return found
}

// shortest finds the fewest lines to remove and insert (Myers, "An O(ND)
// Difference Algorithm and Its Variations", 1986).
func shortest(a, b []string) []edit {
	n, m := len(a), len(b)
	limit := min(n+m, maxEdits)
	reached := make(round, 2*limit+3)
	var trace []round // what was reached before each round
	for d := range limit + 1 {
		trace = append(trace, reached.around(d))
		for k := -d; k <= d; k += 2 {
			x := reached.at(k + 1)
			if !reached.inserts(k, d) {
				x = reached.at(k-1) + 1
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			reached[k+len(reached)/2] = x
			if x >= n && x-k >= m {
				return walk(trace, n, m)
			}
		}
	}
	return []edit{{0, n, 0, m}}
}

// round holds how far each diagonal x-y was followed: the x reached there. The
// diagonal 0 is in its middle.
type round []int

func (r round) at(k int) int { return r[k+len(r)/2] }

// around copies what round d needs.
func (r round) around(d int) round {
	return append(round(nil), r[len(r)/2-d-1:len(r)/2+d+2]...)
}

// inserts tells how round d comes to diagonal k: by a line inserted, from the
// diagonal above, or by one removed, from the one below.
func (r round) inserts(k, d int) bool {
	return k == -d || k != d && r.at(k-1) < r.at(k+1)
}

// walk goes back through the rounds and joins neighbouring lines to edits.
func walk(trace []round, x, y int) []edit {
	var found []edit
	for d := len(trace) - 1; d > 0; d-- {
		before, k := trace[d], x-y
		var e edit
		if before.inserts(k, d) {
			x = before.at(k + 1)
			y = x - (k + 1)
			e = edit{a0: x, a1: x, b0: y, b1: y + 1}
		} else {
			x = before.at(k - 1)
			y = x - (k - 1)
			e = edit{a0: x, a1: x + 1, b0: y, b1: y}
		}
		if last := len(found) - 1; last >= 0 && found[last].a0 == e.a1 && found[last].b0 == e.b1 {
			found[last].a0, found[last].b0 = e.a0, e.b0
			continue
		}
		found = append(found, e)
	}
	slices.Reverse(found)
	return found
}

// hunk is a group of edits that are shown together.
type hunk []edit

// hunks joins edits whose surroundings touch.
func hunks(all []edit) []hunk {
	var groups []hunk
	for i, e := range all {
		if i > 0 && e.a0-all[i-1].a1 <= 2*context {
			groups[len(groups)-1] = append(groups[len(groups)-1], e)
			continue
		}
		groups = append(groups, hunk{e})
	}
	return groups
}

func (h hunk) write(out *bytes.Buffer, a, b []string) {
	first, last := h[0], h[len(h)-1]
	lead := min(context, first.a0)
	tail := min(context, len(a)-last.a1)
	fmt.Fprintf(out, "@@ -%s +%s @@\n",
		span(first.a0-lead, last.a1+tail), span(first.b0-lead, last.b1+tail))
	at := first.a0 - lead
	for _, e := range h {
		write(out, ' ', a[at:e.a0])
		write(out, '-', a[e.a0:e.a1])
		write(out, '+', b[e.b0:e.b1])
		at = e.a1
	}
	write(out, ' ', a[at:at+tail])
}

// span writes lines from start to end as diff and patch count them.
func span(start, end int) string {
	switch end - start {
	case 0:
		return fmt.Sprintf("%d,0", start)
	case 1:
		return fmt.Sprint(start + 1)
	}
	return fmt.Sprintf("%d,%d", start+1, end-start)
}

func write(out *bytes.Buffer, mark byte, lines []string) {
	for _, line := range lines {
		out.WriteByte(mark)
		out.WriteString(line)
		if !strings.HasSuffix(line, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}
