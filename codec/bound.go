package codec

import (
	"math"
	"math/bits"
	"net/netip"
	"unsafe"
)

// MemoryFactor is how many bytes of memory a reader makes at most for each byte
// of the limit on what it reads, unless [Reader.Limit] says otherwise.
const MemoryFactor = 16

// smallest is what a reader is given at least to count [MemoryFactor] from: a
// short value of large elements is no bomb.
const smallest = 1 << 20

// One byte of input can stand for a large element, and a type that contains
// itself declares at every depth, so these bound what is made for elements that
// were only declared: in one collection, and in all that a reader reads.
const (
	preallocBytes  = 64 << 10
	preallocFactor = 16 // bytes for each of the input's, beside preallocBytes
)

// growth is the factor by which a slice grows. A large one leaves little behind
// to be collected, and is bounded by what was really read.
const growth = 4

// What a type's own method is taken to keep besides the type itself and a copy
// of what it is given: with msgpack/v5's decoder, and with text or binary.
const (
	decoded      = 32
	unmarshaled  = 96
	withoutParts = 0
)

// Limit bounds what the reader may make of its bytes, slices, maps, pointers and
// strings together, in bytes of memory. It is called after NewReader or Reset.
// Without it the bound is [MemoryFactor] times the bytes given, at least 16 MiB.
// What a type's own methods make of their bytes is only estimated.
func (r *Reader) Limit(memory int) { r.limit, r.memory = memory, usable(memory) }

func memoryFor(n int) int { return MemoryFactor * max(n, smallest) }

// declarable is how many bytes may be made for what n bytes only declare.
func declarable(n int) int { return preallocBytes + preallocFactor*n }

// usable is what of a limit is given away: the allocator rounds up.
func usable(memory int) int { return memory - memory/32 }

// charge counts bytes that are about to be made. Beyond the limit it fails the
// reader and returns false.
func (r *Reader) charge(size int) bool {
	r.memory -= size
	return r.memory >= 0 || r.exhausted()
}

func (r *Reader) exhausted() bool {
	r.failf("what it declares takes more than %d bytes of memory, the limit for what is decoded", r.limit)
	return false
}

// Exhausted reports whether what was read would have taken more than the limit.
func (r *Reader) Exhausted() bool { return r.memory < 0 }

// product is n × size, or more than any reader has where int has no room for it.
func product(n, size int) int {
	high, low := bits.Mul64(uint64(n), uint64(size))
	if high != 0 || low > math.MaxInt {
		return math.MaxInt
	}
	return int(low)
}

// copied counts n bytes of the input that are copied. There are never more than
// the input has, so it is enough that charge finds them counted.
func (r *Reader) copied(n int) { r.memory -= 2 * n }

// own counts what the method of a type with one makes of n bytes.
func (r *Reader) own(n, parts int) bool { return r.charge(parts + 2*n) }

// partsOf is what a type is taken to keep that reads text or binary.
func partsOf(v any) int {
	switch v.(type) {
	case *netip.Addr, *netip.AddrPort, *netip.Prefix:
		return withoutParts
	}
	return unmarshaled
}

// rounded is what the allocator makes of a request for n bytes, about.
func rounded(n int) int {
	if n <= 16 {
		return n
	}
	return n + n/16 + 4
}

// New makes a value for a pointer to point to, within the reader's limit.
// Beyond it, it fails the reader.
func New[E any](r *Reader) *E {
	var e E
	r.charge(rounded(int(unsafe.Sizeof(e))))
	return new(E)
}

// Room reports whether an element can be appended to s, of which so many are
// left to read, and makes room for it. It is false when the reader has had an
// error, and fails it when its limit is reached. It stands in the condition of
// loops over the elements of a slice: see [ReadSlice].
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

// prealloc is the capacity to make for n declared elements of type E; Room
// makes more once they are really there.
func prealloc[E any](r *Reader, n int) int {
	var e E
	size := int(unsafe.Sizeof(e))
	n = min(Prealloc(n), preallocBytes/max(size, 1))
	if r.ahead -= n * size; r.ahead < 0 || !r.charge(n*size) {
		return 0
	}
	return n
}

// What a map takes: the map itself, and the slots of its groups, which are 8
// where there are few pairs and, in tables that split, twice as many as pairs
// where there are many. Large keys and values are made by themselves.
const (
	mapHeader   = 48
	mapGroup    = 8
	largestSlot = 128
)

// mapCost is how many bytes a map of n pairs takes.
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

// countMap holds what a map of n declared pairs takes against the limit, and
// returns how many to make at once. Where they are many, it looks whether they
// are there: a map that grows leaves as much behind as it keeps.
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
