// Package codec encodes and decodes MessagePack for generated code, without
// reflection. Its reader is safe for untrusted bytes.
//
// The bytes are MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md)
// as github.com/vmihailenco/msgpack/v5 writes it with compact integers. Either side
// can read the output of the other.
//
// The reader checks before it allocates:
//
//   - a declared length must fit the remaining bytes;
//   - arrays and maps nest at most [MaxDepth] deep, and Skip does not recurse;
//   - the memory for decoded values is limited ([Reader.Limit]), so a few bytes cannot
//     declare large values;
//   - the text of a number of any size is at most [MaxDigits] long.
package codec

// MaxDepth is how deeply arrays and maps may nest in the input.
const MaxDepth = 64

// preallocElements is how many elements are allocated at most before they are read.
const preallocElements = 1024

// Prealloc returns the capacity to allocate for a collection that declares n small
// elements. append grows it as elements are read.
func Prealloc(n int) int { return min(n, preallocElements) }
