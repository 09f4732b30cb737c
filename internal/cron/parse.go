package cron

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// maxLength is the maximal length of an expression in bytes: several times the
// longest sensible one.
const maxLength = 256

const allFields = "minute hour day-of-month month day-of-week"

// field is one of the five fields of an expression, with the range of its values.
type field struct {
	name     string
	min, max int
	last     int      // the greatest value of *; less than max if max repeats min
	names    []string // names of the values from min on
}

// ranges are the five fields in order. It is read-only.
var ranges = [5]field{
	{name: "minute", min: 0, max: 59, last: 59},
	{name: "hour", min: 0, max: 23, last: 23},
	{name: "day of month", min: 1, max: 31, last: 31},
	{name: "month", min: 1, max: 12, last: 12, names: []string{
		"jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"}},
	{name: "day of week", min: 0, max: 7, last: 6, names: []string{
		"sun", "mon", "tue", "wed", "thu", "fri", "sat"}},
}

// part is a part of an expression and its byte offset.
type part struct {
	text   string
	offset int
}

// cut splits p at the first sep. Without one, the second part is empty, at the end of
// p.
func (p part) cut(sep string) (before, after part, found bool) {
	a, b, found := strings.Cut(p.text, sep)
	after = part{b, p.offset + len(a)}
	if found {
		after.offset += len(sep)
	}
	return part{a, p.offset}, after, found
}

func (p part) errorf(format string, args ...any) *Error {
	return &Error{Offset: p.offset, Reason: fmt.Sprintf(format, args...)}
}

// Parse parses an expression in the syntax of the package doc, of at most 256 bytes.
// Its errors are of type [*Error].
func Parse(spec string) (*Schedule, error) {
	s, err := parse(spec)
	if err != nil {
		err.Spec = spec[:min(len(spec), maxLength)]
		return nil, err
	}
	return s, nil
}

func parse(spec string) (*Schedule, *Error) {
	if len(spec) > maxLength {
		return nil, part{spec, maxLength}.errorf("%d bytes long; at most %d are allowed", len(spec), maxLength)
	}
	parts := fields(spec)
	if len(parts) > 0 && strings.HasPrefix(parts[0].text, "@") {
		return parseNickname(parts)
	}
	if err := checkCount(parts, len(spec)); err != nil {
		return nil, err
	}
	return parseFields(parts)
}

// parseFields parses the five fields of an expression.
func parseFields(parts []part) (*Schedule, *Error) {
	var set [5]uint64
	var star [5]bool
	text := make([]string, 5)
	for i, p := range parts {
		var err *Error
		if set[i], err = ranges[i].parse(p); err != nil {
			return nil, err
		}
		star[i] = p.text[0] == '*'
		text[i] = p.text
	}
	s := &Schedule{
		text:    strings.Join(text, " "),
		minutes: set[0], hours: set[1], days: set[2], months: set[3], weekdays: set[4],
		realTime:  star[1],
		starDay:   star[2],
		eitherDay: !star[2] && !star[4],
	}
	if !s.possible() {
		return nil, parts[2].errorf("day of month %q never comes in month %q; write L for its last day", text[2], text[3])
	}
	return s, nil
}

// fields splits an expression at spaces.
func fields(spec string) []part {
	var parts []part
	for rest := (part{spec, 0}); rest.text != ""; {
		end := strings.IndexAny(rest.text, " \t")
		if end < 0 {
			end = len(rest.text)
		}
		if end > 0 {
			parts = append(parts, part{rest.text[:end], rest.offset})
		}
		next := min(end+1, len(rest.text))
		rest = part{rest.text[next:], rest.offset + next}
	}
	return parts
}

func checkCount(parts []part, length int) *Error {
	switch n := len(parts); {
	case n == 0:
		return part{}.errorf("it is empty; it needs five fields: %s", allFields)
	case strings.Contains(parts[0].text, "TZ="):
		return parts[0].errorf("%q: the time zone is not part of the expression", parts[0].text)
	case n < 5:
		return part{offset: length}.errorf("%d of 5 fields; it needs %s", n, allFields)
	case n > 5:
		return parts[5].errorf("%d fields, and only 5 are allowed: %s; there are no seconds and no years (below a minute use an interval)", n, allFields)
	}
	return nil
}

// nicknames are the names of whole expressions. It is read-only.
var nicknames = map[string]string{
	"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
	"@monthly": "0 0 1 * *",
	"@weekly":  "0 0 * * 0",
	"@daily":   "0 0 * * *", "@midnight": "0 0 * * *",
	"@hourly": "0 * * * *",
}

func parseNickname(parts []part) (*Schedule, *Error) {
	name := strings.ToLower(parts[0].text)
	spec, known := nicknames[name]
	if !known {
		return nil, unknownNickname(parts[0], name)
	}
	if len(parts) > 1 {
		return nil, parts[1].errorf("%q after %s, which stands alone", parts[1].text, name)
	}
	s, err := parse(spec)
	if err == nil {
		s.text = name
	}
	return s, err
}

func unknownNickname(p part, name string) *Error {
	switch name {
	case "@every":
		return p.errorf("%q is not a cron expression: use an interval", p.text)
	case "@reboot":
		return p.errorf("%q is not supported: it names no instant", p.text)
	}
	return p.errorf("unknown name %q; known: @yearly @annually @monthly @weekly @daily @midnight @hourly", p.text)
}

// parse returns the set of values in field p: bit v is value v.
func (f *field) parse(p part) (uint64, *Error) {
	var set uint64
	for rest, more := p, true; more; {
		var elem part
		elem, rest, more = rest.cut(",")
		if f.hasLast() && strings.EqualFold(elem.text, "l") {
			set |= lastDay
			continue
		}
		lo, hi, step, err := f.parseElement(elem, p)
		if err != nil {
			return 0, err
		}
		for v := lo; v <= hi; v += step {
			set |= 1 << v
		}
	}
	if f.last < f.max && set&(1<<f.max) != 0 {
		set = set&^(1<<f.max) | 1<<f.min
	}
	return set, nil
}

// hasLast reports whether L is a value of the field: the last day of a month.
func (f *field) hasLast() bool { return f.max == 31 }

// parseElement parses one element of the list in the whole field.
func (f *field) parseElement(elem, whole part) (lo, hi, step int, err *Error) {
	if elem.text == "" {
		return 0, 0, 0, elem.errorf("%s %q has an empty element", f.name, whole.text)
	}
	values, by, stepped := elem.cut("/")
	lo, hi, err = f.parseRange(values)
	if err != nil || !stepped {
		return lo, hi, 1, err
	}
	if values.text != "*" && !strings.Contains(values.text, "-") {
		return 0, 0, 0, elem.errorf("%s %q has a step but no range; write %s-%d/%s", f.name, elem.text, values.text, f.last, by.text)
	}
	step, ok := number(by.text)
	if size := hi - lo + 1; !ok || step < 1 || step > size {
		return 0, 0, 0, by.errorf("%s %q: step %q is outside 1-%d", f.name, elem.text, by.text, size)
	}
	return lo, hi, step, nil
}

// parseRange parses *, a value or a range of values.
func (f *field) parseRange(p part) (lo, hi int, err *Error) {
	if p.text == "*" {
		return f.min, f.last, nil
	}
	from, to, ranged := p.cut("-")
	if lo, err = f.parseValue(from); err != nil || !ranged {
		return lo, lo, err
	}
	hi, err = f.parseEnd(from, to, lo)
	return lo, hi, err
}

// parseEnd parses the end of a range that starts with from, whose value is lo.
func (f *field) parseEnd(from, to part, lo int) (int, *Error) {
	hi, err := f.parseValue(to)
	if err != nil {
		return 0, err
	}
	if hi == f.min && lo > hi && f.last < f.max {
		if _, digits := number(to.text); !digits {
			return f.max, nil // sat-sun
		}
		return 0, from.errorf("%s %q runs backwards; write %s-%d", f.name, from.text+"-"+to.text, from.text, f.max)
	}
	if hi < lo {
		return 0, from.errorf("%s %q runs backwards; write %s,%s", f.name, from.text+"-"+to.text,
			written(lo, f.last), written(f.min, hi))
	}
	return hi, nil
}

// written formats a range, or a single value.
func written(lo, hi int) string {
	if lo >= hi {
		return fmt.Sprint(lo)
	}
	return fmt.Sprintf("%d-%d", lo, hi)
}

// parseValue parses a number or a name.
func (f *field) parseValue(p part) (int, *Error) {
	if v, ok := number(p.text); ok {
		if v < f.min || v > f.max {
			return 0, p.errorf("%s %q is outside %d-%d", f.name, p.text, f.min, f.max)
		}
		return v, nil
	}
	if p.text == "" {
		return 0, p.errorf("%s: %s is missing", f.name, f.allowed())
	}
	name := strings.ToLower(p.text)
	if i := slices.Index(f.names, name); i >= 0 {
		return f.min + i, nil
	}
	return 0, p.errorf("%s %q is not %s%s", f.name, p.text, f.allowed(), f.hint(name))
}

func (f *field) allowed() string {
	s := fmt.Sprintf("a number in %d-%d", f.min, f.max)
	if f.hasLast() {
		s += " or L"
	}
	if n := len(f.names); n > 0 {
		s += fmt.Sprintf(" or a name in %s-%s", f.names[0], f.names[n-1])
	}
	return s
}

// hint returns a hint for a lower-case value that is neither a number nor a name.
func (f *field) hint(name string) string {
	switch {
	case name == "?":
		return "; write *"
	case strings.Contains(name, "#"), strings.Trim(name, "0123456789lw") == "", name == "last":
		if f.hasLast() {
			return "; L, the last day of the month, stands alone or in a list; W and # are not supported"
		}
		return "; L is for the day of month; W and # are not supported"
	case len(name) > 3 && slices.Contains(f.names, name[:3]):
		return "; write " + name[:3]
	}
	return ""
}

// number parses decimal digits. A number too large for any field is 1000.
func number(s string) (n int, ok bool) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+int(c-'0'), 1000)
	}
	return n, s != ""
}

// possible reports whether any day matches the day and month fields.
func (s *Schedule) possible() bool {
	if s.eitherDay || s.days&lastDay != 0 {
		return true
	}
	// If a day must match both fields, each weekday falls on each day of a month at
	// some time, including 29 February.
	longest := 29
	for months := s.months; months != 0; months &= months - 1 {
		switch bits.TrailingZeros64(months) {
		case 2:
		case 4, 6, 9, 11:
			longest = max(longest, 30)
		default:
			longest = 31
		}
	}
	return bits.TrailingZeros64(s.days) <= longest
}
