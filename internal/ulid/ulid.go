// Package ulid makes ULIDs (https://github.com/ulid/spec): 48 bits of milliseconds
// and 80 random bits, in 26 characters that sort by time.
package ulid

import (
	"math/rand/v2"
	"strings"
	"time"
)

// Size is the length of a ULID in bytes.
const Size = 26

// alphabet is Crockford's base 32; its digits sort as their values do.
const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

// New returns a ULID of the given time.
func New(now time.Time) string { return NewBatch(now, 1) }

// NewBatch returns n ULIDs, one behind the other, in one allocation.
func NewBatch(now time.Time, n int) string {
	var ids strings.Builder
	ids.Grow(n * Size)
	var id [Size]byte
	putBase32(id[:10], uint64(now.UnixMilli()))
	for range n {
		putBase32(id[10:18], rand.Uint64())
		putBase32(id[18:], rand.Uint64())
		ids.Write(id[:])
	}
	return ids.String()
}

// putBase32 fills b with the last bits of v.
func putBase32(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = alphabet[v&31]
		v >>= 5
	}
}
