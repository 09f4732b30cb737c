package codec

// Raw reads the next value whole and returns its bytes, not copied.
func (r *Reader) Raw() []byte {
	at := r.pos
	r.Skip()
	if r.err != nil {
		return nil
	}
	return r.buf[at:r.pos]
}

// Skip moves behind the next value, whatever it is, without recursion.
func (r *Reader) Skip() {
	var open [MaxDepth]int // values left in each collection entered
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

// skipOne moves behind one scalar or a collection's header, and returns how
// many values the collection holds.
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

// Enter counts one more level of a type that contains itself; Leave takes it
// back. Beyond MaxDepth the reader fails, so hostile nesting ends early.
func (r *Reader) Enter() {
	r.depth++
	if r.depth > MaxDepth {
		r.failf("nested more than %d deep", MaxDepth)
	}
}

// Leave ends what Enter began.
func (r *Reader) Leave() { r.depth-- }
