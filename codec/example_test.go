package codec_test

import (
	"fmt"

	"github.com/taskgen/taskgen/codec"
)

// Encoders append to a buffer. A reader keeps the first error, which Done returns
// at the end.
func Example() {
	b := codec.AppendMapLen(nil, 2)
	b = codec.AppendString(b, "order")
	b = codec.AppendString(b, "1001")
	b = codec.AppendString(b, "cents")
	b = codec.AppendInt(b, 4200)

	var order string
	var cents int64
	r := codec.NewReader(b)
	for range r.MapLen() {
		switch r.String() {
		case "order":
			order = r.String()
		case "cents":
			cents = r.Int64()
		default:
			r.Skip()
		}
	}
	fmt.Println(order, cents, r.Done())
	// Output: 1001 4200 <nil>
}

// Five bytes announce four thousand million elements. A reader refuses them before it
// allocates.
func ExampleReader() {
	r := codec.NewReader([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	var list []string
	for range codec.ReadSlice(r, &list) {
		*codec.Next(&list) = r.String()
	}
	fmt.Println(len(list), r.Done())
	// Output: 0 msgpack offset 5: 4294967295 elements declared in 0 bytes
}
