package codec

// Raw reads the next value and returns its bytes without copying.
func (r *Reader) Raw() []byte {
	at := r.pos
	r.Skip()
	if r.err != nil {
		return nil
	}
	return r.buf[at:r.pos]
}

// Skip skips the next value of any kind. It does not recurse.
func (r *Reader) Skip() {
	var open [MaxDepth]int // values left in each open collection
	depth := 0
	for {
		n := r.skipOne()
		if r.err != nil {
			return
		}
		if n > 0 {
			if depth == MaxDepth {
				r.failf("nested more than %d deep", MaxDepth)
				return
			}
			open[depth] = n
			depth++
			continue
		}
		for depth > 0 {
			open[depth-1]--
			if open[depth-1] > 0 {
				break
			}
			depth--
		}
		if depth == 0 {
			return
		}
	}
}

// skipOne skips one scalar or a collection's header, and returns how many values the
// collection has.
func (r *Reader) skipOne() int {
	c := r.peek()
	switch {
	case r.pos >= len(r.buf):
		r.wrong("a value")
	case c < codeFixMap, c >= 0xe0, c == codeNil, c == codeFalse, c == codeTrue:
		r.pos++
	case c < codeFixArray, c == codeMap16, c == codeMap32:
		return 2 * r.MapLen()
	case c < codeFixStr, c == codeArray16, c == codeArray32:
		return r.ArrayLen()
	case c < codeNil, c >= codeStr8 && c <= codeStr32:
		r.text("a string")
	case c >= codeBin8 && c <= codeBin32:
		r.raw()
	case c == codeFloat32:
		r.fixed(4)
	case c == codeFloat64:
		r.fixed(8)
	case c >= codeUint8 && c <= codeInt64:
		r.integer("an integer")
	case c >= codeExt8 && c <= codeExt32, c >= codeFixExt1 && c <= codeFixExt16:
		r.ext("an extension")
	default:
		r.wrong("a value")
	}
	return 0
}

// Enter enters one level of a type that contains itself; Leave leaves it. Beyond
// MaxDepth the reader fails.
func (r *Reader) Enter() {
	r.depth++
	if r.depth > MaxDepth {
		r.failf("nested more than %d deep", MaxDepth)
	}
}

// Leave leaves the level that Enter entered.
func (r *Reader) Leave() { r.depth-- }
