package codec

import (
	"math"
	"math/bits"
	"net/netip"
	"unsafe"
)

// MemoryFactor bounds the memory of decoded values: at most so many bytes for each
// byte of input, unless [Reader.Limit] sets another limit.
const MemoryFactor = 16

// smallest is the least input size to which [MemoryFactor] applies, because short
// values of large elements are harmless.
const smallest = 1 << 20

// Bounds on memory for elements that are declared but not read yet, in one collection
// and in all. One byte of input can declare a large element, and a type that contains
// itself can declare some at every depth.
const (
	preallocBytes  = 64 << 10
	preallocFactor = 16 // bytes for each byte of input, in addition to preallocBytes
)

// growth is the factor by which a slice grows. A large factor leaves little garbage,
// and the elements read bound its cost.
const growth = 4

// Estimates of the memory that a type's own decoding method keeps, besides the type
// itself and a copy of its input: with msgpack/v5's decoder, and with text or binary.
const (
	decoded      = 32
	unmarshaled  = 96
	withoutParts = 0
)

// Limit sets how many bytes of memory the reader may allocate for slices, maps,
// pointers and strings together. Call it after NewReader or Reset. The default is
// [MemoryFactor] times the input, at least 16 MiB. The memory of types with their own
// methods is estimated.
func (r *Reader) Limit(memory int) { r.limit, r.memory = memory, usable(memory) }

func memoryFor(n int) int { return MemoryFactor * max(n, smallest) }

// declarable returns how many bytes may be allocated for elements that n bytes
// declare.
func declarable(n int) int { return preallocBytes + preallocFactor*n }

// usable returns the usable part of a limit, because the allocator rounds up.
func usable(memory int) int { return memory - memory/32 }

// charge counts size bytes of memory. Beyond the limit it sets the reader's error and
// returns false.
func (r *Reader) charge(size int) bool {
	r.memory -= size
	return r.memory >= 0 || r.exhausted()
}

func (r *Reader) exhausted() bool {
	r.failf("what it declares takes more than %d bytes of memory, the limit for what is decoded", r.limit)
	return false
}

// Exhausted reports whether the input needs more memory than the limit.
func (r *Reader) Exhausted() bool { return r.memory < 0 }

// product returns n × size, or a number beyond any limit if that overflows.
func product(n, size int) int {
	high, low := bits.Mul64(uint64(n), uint64(size))
	if high != 0 || low > math.MaxInt {
		return math.MaxInt
	}
	return int(low)
}

// copied counts n bytes copied from the input. They are bounded by the input, so the
// next charge checks them.
func (r *Reader) copied(n int) { r.memory -= 2 * n }

// own charges the memory that a type's own method keeps of n bytes.
func (r *Reader) own(n, parts int) bool { return r.charge(parts + 2*n) }

// partsOf returns an estimate of what a type keeps that decodes text or binary.
func partsOf(v any) int {
	switch v.(type) {
	case *netip.Addr, *netip.AddrPort, *netip.Prefix:
		return withoutParts
	}
	return unmarshaled
}

// rounded returns roughly what the allocator uses for n bytes.
func rounded(n int) int {
	if n <= 16 {
		return n
	}
	return n + n/16 + 4
}

// New allocates a value for a pointer. Beyond the reader's limit it sets the reader's
// error.
func New[E any](r *Reader) *E {
	var e E
	r.charge(rounded(int(unsafe.Sizeof(e))))
	return new(E)
}

// Room reports whether to append a further element to s, of which left remain to be
// read, and makes room for it. It returns false after an error, and sets one if the
// limit is reached. It is a loop condition; see [ReadSlice].
func Room[S ~[]E, E any](r *Reader, s *S, left int) bool {
	return r.err == nil && (len(*s) < cap(*s) || grow(r, s, left))
}

func grow[S ~[]E, E any](r *Reader, s *S, left int) bool {
	var e E
	n := min(max(growth*cap(*s), 8), len(*s)+left)
	if !r.charge(product(n, int(unsafe.Sizeof(e)))) {
		return false
	}
	*s = append(make(S, 0, n), *s...)
	return true
}

// prealloc returns the capacity to allocate for n declared elements of type E. Room
// grows it as elements are read.
func prealloc[E any](r *Reader, n int) int {
	var e E
	size := int(unsafe.Sizeof(e))
	n = min(Prealloc(n), preallocBytes/max(size, 1))
	if r.ahead -= n * size; r.ahead < 0 || !r.charge(n*size) {
		return 0
	}
	return n
}

// The memory of a map: the map itself, and the slots of its groups. Small maps have 8
// slots, large ones up to twice as many as pairs. Large keys and values are allocated
// separately.
const (
	mapHeader   = 48
	mapGroup    = 8
	largestSlot = 128
)

// mapCost returns how many bytes a map of n pairs takes.
func mapCost(n, key, value int) int {
	if n == 0 {
		return mapHeader
	}
	slot, apart := 1+key+value, 0
	if key > largestSlot {
		slot, apart = slot-key+8, rounded(key)
	}
	if value > largestSlot {
		slot, apart = slot-value+8, apart+rounded(value)
	}
	if n <= mapGroup {
		return mapHeader + mapGroup*slot + n*apart
	}
	return product(n, 2*slot+apart+mapHeader/mapGroup)
}

// countMap charges a map of n declared pairs, and returns how many to allocate at
// once. If there are many, it checks that they are in the input, because a map that
// grows leaves as much garbage as it keeps.
func countMap[K comparable, V any](r *Reader, n int) int {
	var k K
	var v V
	if !r.charge(mapCost(n, int(unsafe.Sizeof(k)), int(unsafe.Sizeof(v)))) {
		return 0
	}
	slot := int(unsafe.Sizeof(k)) + int(unsafe.Sizeof(v)) + 1
	if r.ahead -= n * slot; n*slot > preallocBytes || r.ahead < 0 {
		ahead := *r
		for left := 2 * n; left > 0 && ahead.err == nil; left-- {
			ahead.Skip()
		}
		if ahead.err != nil {
			r.pos = len(r.buf)
			r.err = ahead.err
			return 0
		}
	}
	return n
}
