// Package codec writes and reads MessagePack for generated code: appending
// encoders without reflection and a reader that is bounded on hostile bytes.
//
// The bytes are those of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md)
// as github.com/vmihailenco/msgpack/v5 writes them with compact integers, so
// that either side can read what the other wrote.
//
// The reader never allocates more than the bytes it was given can justify:
// every declared length is held against the bytes that are left, nesting is
// limited to [MaxDepth], and skipping a value does not recurse.
package codec

// MaxDepth is how deep arrays and maps may nest in what is read.
const MaxDepth = 64

// maxPrealloc bounds the capacity made for a collection before its elements
// were seen: one byte of input can stand for a large element.
const maxPrealloc = 1024

// Prealloc returns the capacity to make for a collection that declares n
// elements; append grows it further once the elements are really there.
func Prealloc(n int) int { return min(n, maxPrealloc) }
