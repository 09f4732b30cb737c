package subprocess

import (
	"encoding/binary"
	"hash/fnv"
	"strings"
)

// maxSchema is how many fingerprints fit the first frame to a child.
const maxSchema = 7000

// fingerprints are what tells the entries of a schema from others, 8 bytes
// each. They cross instead of the entries, since the parent writes its first
// frame before anybody reads it, into a pipe that may hold little.
func fingerprints(schema []string) []byte {
	b := make([]byte, 0, 8*len(schema))
	for _, entry := range schema {
		h := fnv.New64a()
		_, _ = h.Write([]byte(entry)) // a hash takes everything
		b = binary.BigEndian.AppendUint64(b, h.Sum64())
	}
	return b
}

// firstMissing is which of the wanted fingerprints, counted from 1, is not
// among those that are known; 0 if all are.
func firstMissing(wanted, known []byte) int {
	have := make(map[[8]byte]bool, len(known)/8)
	for ; len(known) >= 8; known = known[8:] {
		have[[8]byte(known)] = true
	}
	for i := 1; len(wanted) >= 8; i++ {
		if !have[[8]byte(wanted)] {
			return i
		}
		wanted = wanted[8:]
	}
	return 0
}

// schemaName is what an entry of a schema is called in an error.
func schemaName(schema []string, n int) string {
	if n < 1 || n > len(schema) {
		return "what nobody asked for"
	}
	name, _, _ := strings.Cut(schema[n-1], " ")
	return name
}
