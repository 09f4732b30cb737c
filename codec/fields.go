package codec

import (
	"math/bits"
	"strconv"
	"strings"
)

// Once marks bit in seen, which counts the keys of the map being read. A bit
// that is marked already means that the key just read stood before: that fails
// the reader.
func (r *Reader) Once(seen *uint64, bit int) {
	if *seen&(1<<bit) != 0 {
		r.duplicate()
	}
	*seen |= 1 << bit
}

// duplicate fails with the key just read.
func (r *Reader) duplicate() {
	if r.err == nil {
		r.pos = r.keyAt
		key := r.text("a string key")
		r.pos = r.keyAt
		r.failf("the key %q stands twice", key)
	}
}

// Require fails the reader when one of the parameters whose bits are counted
// from 0 in the order of names is not in seen.
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
