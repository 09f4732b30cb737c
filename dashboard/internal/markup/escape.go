package markup

import (
	"strings"
	"unicode/utf8"
)

// escaper writes text so that it is text in HTML, and in a quoted value of an attribute.
var escaper = strings.NewReplacer("\x00", "\uFFFD", `"`, "&#34;", "&", "&amp;", "'", "&#39;", "+", "&#43;", "<", "&lt;", ">", "&gt;")

// escape writes a value as a place needs it.
func escape(as use, text string) string {
	switch as {
	case asAddress:
		text = escapeAddress(filterAddress(text), true)
	case asQuery:
		text = escapeAddress(text, false)
	}
	return escaper.Replace(text)
}

// filterAddress returns an address, or one that leads nowhere for an address that a browser
// would execute, or that is of a scheme that no page has.
func filterAddress(s string) string {
	scheme, _, found := strings.Cut(s, ":")
	if found && !strings.ContainsAny(scheme, "/") && !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") && !strings.EqualFold(scheme, "mailto") {
		return "#ZgotmplZ"
	}
	return s
}

const hexDigits = "0123456789abcdef"

// escapeAddress writes all bytes but those that have no meaning in an address by percent signs
// or, of a whole address, those that may not stand in it.
func escapeAddress(s string, whole bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c < utf8.RuneSelf && isLetter(c), c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0,
			whole && strings.IndexByte("!#$&*+,/:;=?@[]", c) >= 0,
			whole && c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f' }
