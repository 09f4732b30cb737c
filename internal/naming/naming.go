// Package naming says what tasks and queues may be called, in directives and in
// options of an enqueue alike.
package naming

import "fmt"

// Max is the broker's limit on the bytes of a task's or queue's name.
const Max = 128

// Problem says why a name cannot be a task's or a queue's, or returns "". What
// a broker can store is more than this: a blank or a * in a queue's name would
// make flags and patterns of consumers mean something else.
func Problem(name string) string {
	if len(name) > Max {
		return fmt.Sprintf("a name of %d bytes is too long; the limit is %d", len(name), Max)
	}
	for i := range len(name) {
		if !allowed(name[i], i == 0) {
			return notAName(name)
		}
	}
	if name == "" {
		return notAName(name)
	}
	return ""
}

func notAName(name string) string {
	return fmt.Sprintf("%q is not a name; write letters, digits, '_', '-' and '.', a letter or digit first", name)
}

func allowed(c byte, first bool) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return !first && (c == '_' || c == '-' || c == '.')
}
