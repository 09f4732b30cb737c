// Package codec writes and reads MessagePack for generated code: appending
// encoders without reflection and a reader that is bounded on hostile bytes.
//
// The bytes are those of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md)
// as github.com/vmihailenco/msgpack/v5 writes them with compact integers, so
// that either side can read what the other wrote.
//
// The reader is bounded before it allocates: every declared length is held
// against the bytes that are left, nesting is limited to [MaxDepth], skipping a
// value does not recurse, and what is made of the bytes is counted against a
// limit ([Reader.Limit]), so that cheap bytes for large types are refused. The
// texts of numbers of any size are limited to [MaxDigits].
package codec

// MaxDepth is how deep arrays and maps may nest in what is read.
const MaxDepth = 64

// preallocElements bounds the elements that are made before they were read.
const preallocElements = 1024

// Prealloc returns the capacity to make for a collection of small elements
// that declares n of them; append grows it further once they are really there.
func Prealloc(n int) int { return min(n, preallocElements) }
