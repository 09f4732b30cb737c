package web

import (
	"encoding/json"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/taskgen/taskgen/internal/text"
)

// span is a time for people: so many of its largest unit.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "-" + span(-d)
	case d == 0:
		return "0 s"
	case d < time.Millisecond:
		return "<1 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d.Round(time.Second)/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d.Round(time.Minute)/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h", d.Round(time.Hour)/time.Hour)
	}
	return fmt.Sprintf("%d days", d.Round(day)/day)
}

// number is text.Thousands for any integer.
func number(n any) (string, error) {
	switch n := n.(type) {
	case int:
		return text.Thousands(int64(n)), nil
	case int64:
		return text.Thousands(n), nil
	}
	return "", fmt.Errorf("write a number: %T is none", n)
}

// moment is an instant as people see it.
type moment struct {
	Stamp string // RFC 3339, in UTC
	Full  string
	Rel   string // such as "3 min ago" or "in 2 h"
}

// when describes an instant; nil for a zero one.
func when(t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	u := t.UTC()
	m := &moment{Stamp: u.Format("2006-01-02T15:04:05.000Z"), Full: u.Format("2006-01-02 15:04:05.000 UTC")}
	switch d := time.Since(t); {
	case d >= time.Second:
		m.Rel = span(d) + " ago"
	case d > -time.Second:
		m.Rel = "now"
	default:
		m.Rel = "in " + span(-d)
	}
	return m
}

// shown is text of a stranger without what could reverse or hide the text around it. What
// is not printable is written as Go writes it.
func shown(s string) string {
	if !strings.ContainsFunc(s, unprintable) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unprintable(r):
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }

// brief is the first line of a text, cut behind so many characters.
func brief(n int, s string) string {
	s, rest, _ := strings.Cut(strings.TrimSpace(s), "\n")
	cut := []rune(s)
	switch {
	case len(cut) > n:
		return shown(string(cut[:n])) + "…"
	case rest != "":
		return shown(s) + " …"
	}
	return shown(s)
}

// bytesText is a size for people.
func bytesText(n int) string {
	switch {
	case n < 1024:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return tenths(float64(n)/1024) + " KiB"
	}
	return tenths(float64(n)/(1<<20)) + " MiB"
}

// tenths writes a number to the tenth, without one of zero.
func tenths(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }

// pretty indents JSON.
func pretty(b json.RawMessage) string {
	var out strings.Builder
	dst, err := indent(b)
	if err != nil {
		return shown(string(b))
	}
	out.WriteString(shown(dst))
	return out.String()
}

// plural is a word for n things.
func plural(n any, one, many string) string {
	if fmt.Sprint(n) == "1" {
		return one
	}
	return many
}

// ratePerMinute writes a rate.
func ratePerMinute(f float64) string {
	switch {
	case f == 0:
		return "0"
	case f < 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return text.Thousands(int64(f + 0.5))
}

// sortRows sorts rows, and leaves those that compare equal in their order. It is no
// slices.SortStableFunc: that adds some 8 KB to a program for each type of row.
func sortRows[T any](rows []T, compare func(a, b T) int) {
	sort.SliceStable(rows, func(i, j int) bool { return compare(rows[i], rows[j]) < 0 })
}
