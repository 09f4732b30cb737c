package openapi

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// camel returns a name in letters and digits of ASCII, each word with a capital: SendMail
// for send_mail.
func camel(name string) string {
	var b strings.Builder
	upper := true
	for _, r := range name {
		switch {
		case r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			if upper {
				r = unicode.ToUpper(r)
			}
			b.WriteRune(r)
			upper = false
		case unicode.IsLetter(r):
			fmt.Fprintf(&b, "U%04X", r)
			upper = true
		default:
			upper = true
		}
	}
	if b.Len() == 0 {
		return "X"
	}
	return b.String()
}

// names gives each thing a name of its own.
type names map[string]bool

// unused returns the name, with a number if it is taken.
func (n names) unused(name string) string {
	free := name
	for i := 2; n[free]; i++ {
		free = name + strconv.Itoa(i)
	}
	n[free] = true
	return free
}
