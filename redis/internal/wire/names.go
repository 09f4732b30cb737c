package wire

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// CancelField returns a run's field among the cancels of its session: the number of its
// batch and its index there.
func CancelField(number int64, index int) string {
	return strconv.FormatInt(number, 10) + ":" + strconv.Itoa(index)
}

// CompareBatches orders the names of batches by session, and those of a session by number.
func CompareBatches(a, b string) int {
	sessionA, numberA, _ := strings.Cut(a, ":")
	sessionB, numberB, _ := strings.Cut(b, ":")
	return cmp.Or(strings.Compare(sessionA, sessionB), cmp.Compare(len(numberA), len(numberB)), strings.Compare(numberA, numberB))
}

// IsSet reads a bit of a bitmap as SETBIT writes it.
func IsSet[T string | []byte](bitmap T, i int) bool {
	return i/8 < len(bitmap) && bitmap[i/8]&(0x80>>(i%8)) != 0
}

// GlobOf returns the pattern of keys with a beginning.
func GlobOf(opens string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(opens) + "*"
}

// QueueOf returns the escaped name of the queue whose keys have a beginning.
func QueueOf(base string) string {
	name := strings.TrimSuffix(base, "}:")
	return name[strings.LastIndexByte(name, '{')+1:]
}

// Unescape returns the queue's name of an escaped one.
func Unescape(name string) string {
	return strings.NewReplacer("%7B", "{", "%7D", "}", "%3A", ":", "%25", "%").Replace(name)
}

// OwnerOf returns the id of the run that a unique key names; "" if that run has ended.
func OwnerOf(value any) string {
	text, _ := value.(string)
	for i := range len(text) {
		if text[i] == ' ' {
			return text[:i]
		}
	}
	return ""
}

// escape returns a queue's name that fits inside a hash tag and before a colon. It is
// reversible, so distinct names have distinct keys.
func escape(name string) string {
	if !strings.ContainsAny(name, "{}:%") {
		return name
	}
	var s strings.Builder
	for i := range len(name) {
		switch c := name[i]; c {
		case '{', '}', ':', '%':
			fmt.Fprintf(&s, "%%%02X", c)
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}
