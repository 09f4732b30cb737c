package subprocess

import (
	"encoding/binary"
	"hash/fnv"
	"strings"
)

// maxSchema is how many fingerprints fit the first frame to a child.
const maxSchema = 7000

// fingerprints returns 8 bytes for each entry of a schema. They cross instead of the
// entries, because the parent writes its first frame before the child reads, into a
// pipe that may hold little.
func fingerprints(schema []string) []byte {
	b := make([]byte, 0, 8*len(schema))
	for _, entry := range schema {
		h := fnv.New64a()
		_, _ = h.Write([]byte(entry)) // a hash returns no error
		b = binary.BigEndian.AppendUint64(b, h.Sum64())
	}
	return b
}

// firstMissing returns the number, from 1, of the first wanted fingerprint that is
// not known; 0 if all are.
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

// schemaName returns the name of an entry of a schema for errors.
func schemaName(schema []string, n int) string {
	if n < 1 || n > len(schema) {
		return "an entry of no schema"
	}
	name, _, _ := strings.Cut(schema[n-1], " ")
	return name
}
