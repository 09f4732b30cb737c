package codec

import (
	"math/bits"
	"strconv"
	"strings"
)

// Once sets a bit in seen, which has one for each key of a map, and returns the reader. If
// the bit is set already, the key that was just read is repeated, and the reader fails.
func (r *Reader) Once(seen *uint64, bit int) *Reader {
	if *seen&(1<<bit) != 0 {
		r.duplicate()
	}
	*seen |= 1 << bit
	return r
}

// duplicate sets the error for the key just read.
func (r *Reader) duplicate() {
	if r.err == nil {
		r.pos = r.keyAt
		key := r.text("a string key")
		r.pos = r.keyAt
		r.failf("the key %q is repeated", key)
	}
}

// Require sets the reader's error if a parameter's bit is missing in seen. The names
// are in the order of bits from 0.
func (r *Reader) Require(seen uint64, names ...string) { r.require("parameter", seen, names) }

// RequireFields is Require for the fields of a struct.
func (r *Reader) RequireFields(seen uint64, names ...string) { r.require("field", seen, names) }

func (r *Reader) require(what string, seen uint64, names []string) {
	missing := ^seen & (1<<len(names) - 1)
	if missing == 0 || r.err != nil {
		return
	}
	var list []string
	for ; missing != 0; missing &= missing - 1 {
		list = append(list, strconv.Quote(names[bits.TrailingZeros64(missing)]))
	}
	verb := " is missing"
	if len(list) > 1 {
		what, verb = what+"s", " are missing"
	}
	r.failf("%s", what+" "+strings.Join(list, ", ")+verb)
}
