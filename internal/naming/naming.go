// Package naming checks the names of tasks and queues, in directives and in options.
package naming

import "fmt"

// Max is the largest size of a name in bytes.
const Max = 128

// Problem returns why name cannot name a task or queue, or "". Brokers could store
// more names, but a space or a * in a queue's name would change the meaning of flags
// and patterns.
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
