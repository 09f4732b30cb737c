// Package codectest has tasks with parameters and results of every encoded shape, so
// that the generated codecs can be compared with msgpack/v5.
package codectest

import (
	"context"
	"encoding/binary"
	"errors"
	"math/big"
	"net/netip"
	"net/url"
	"regexp"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// Scalars takes one of each basic type.
//
//task:io
func Scalars(ctx context.Context, yes bool, i int, i8 int8, i16 int16, i32 int32, i64 int64,
	u uint, u8 uint8, u16 uint16, u32 uint32, u64 uint64, f32 float32, f64 float64, text string,
) (string, error) {
	return text, nil
}

// Named takes named basic types and times.
//
//task:io
func Named(ctx context.Context, level Level, name Name, ratio Ratio, flag Flag, wait time.Duration, at time.Time) (time.Time, error) {
	return at, nil
}

// Level, Name, Ratio and Flag are types of basic types.
type (
	Level int8
	Name  string
	Ratio float32
	Flag  bool
)

// Binary takes bytes in every form.
//
//task:io
func Binary(ctx context.Context, data []byte, blob Blob, key [16]byte, octets []Octet, pair [2]Octet, parts [][]byte) ([]byte, error) {
	return data, nil
}

// Blob and Octet are types of bytes.
type (
	Blob  []byte
	Octet uint8
)

// Lists takes slices and arrays.
//
//task:io
func Lists(ctx context.Context, words []string, grid [][]int32, fixed [3]int16, square [2][2]bool, items []Item,
	refs []*Item, times []time.Time, addrs []netip.Addr, sparse []Sparse, rooms [2]Item, tables []map[string]int,
) ([]Item, error) {
	return items, nil
}

// Item is a plain struct.
type Item struct {
	ID   string
	Rank int
}

// Sparse may encode as one byte.
type Sparse struct {
	Name   string            `msgpack:"name,omitempty"`
	Count  int               `msgpack:"count,omitempty"`
	Ratio  float64           `msgpack:",omitempty"`
	Tags   []string          `msgpack:"tags,omitempty"`
	Extra  map[string]string `msgpack:"extra,omitempty"`
	Parent *Item             `msgpack:"parent,omitempty"`
}

// Maps takes maps.
//
//task:io
func Maps(ctx context.Context, counts map[string]int, texts map[string]string, byID map[int64]Item, named map[Name]Level,
	nested map[string]map[uint8][]string, refs map[int16]*Item, lists map[string][]Item,
) (map[string]Item, error) {
	return nil, nil
}

// Keyed takes maps whose keys Go does not order.
//
//task:io
func Keyed(ctx context.Context, flags map[bool]string, ids map[[16]byte]Item, addrs map[netip.Addr]map[bool]int, heats map[Celsius][]string,
	pairs map[[2]string]int, versions map[Version]Item, instants map[time.Time]bool, raws map[Raw]string,
) (map[[1][2]int16]*Item, error) {
	return nil, nil
}

// Pointers takes pointers; those that are missing are nil.
//
//task:io
func Pointers(ctx context.Context, number *int, text **string, item *Item, list *[]string, table *map[string]int, at *time.Time, addr *netip.Addr) (*Item, error) {
	return item, nil
}

// Structs takes structs of all kinds.
//
//task:io
func Structs(ctx context.Context, item Item, tagged Tagged, page Page[Item], outer Outer, anonymous struct{ X, Y int32 }, empty Empty) (Outer, error) {
	return outer, nil
}

// Tagged has its own names on the wire, one of them long, and one field that is not
// encoded.
type Tagged struct {
	ID     string `msgpack:"id"`
	Hidden string `msgpack:"-"`
	Long   int    `msgpack:"a key longer than what the header of a short string holds"`
	Umlaut bool   `msgpack:"größe"`
}

// Page is generic.
type Page[T any] struct {
	Items []T
	Next  string
}

// Outer embeds another struct, whose fields are encoded as its own.
type Outer struct {
	Item
	Inner  Page[string]
	Sparse Sparse
}

// Empty has no fields.
type Empty struct{}

// Trees takes types that contain themselves.
//
//task:io
func Trees(ctx context.Context, tree Tree, chain *Chain) (Forest, error) { return nil, nil }

// Tree has trees.
type Tree struct {
	Value    int
	Children []Tree `msgpack:",omitempty"`
}

// Chain is a list whose links are pointers.
type Chain struct {
	Name string
	Next *Chain
}

// Forest has forests by name.
type Forest map[string]Forest

// Own takes types that marshal themselves.
//
//task:io
func Own(ctx context.Context, addr netip.Addr, link url.URL, heat Celsius, duo Duo, raw Raw, version Version) (Duo, error) {
	return duo, nil
}

var errCold = errors.New("colder than cold")

// Celsius marshals itself as text.
type Celsius int

// MarshalText implements encoding.TextMarshaler.
func (c Celsius) MarshalText() ([]byte, error) {
	if c < 0 {
		return nil, errCold
	}
	return binary.AppendUvarint(nil, uint64(c)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Celsius) UnmarshalText(b []byte) error {
	v, n := binary.Uvarint(b)
	if n != len(b) || int(v) < 0 {
		return errCold
	}
	*c = Celsius(v)
	return nil
}

// Duo marshals itself with msgpack/v5's encoder.
type Duo struct {
	Name string
	N    int
}

// EncodeMsgpack implements msgpack.CustomEncoder.
func (d *Duo) EncodeMsgpack(enc *msgpack.Encoder) error {
	if err := enc.EncodeArrayLen(2); err != nil {
		return err
	}
	return enc.EncodeMulti(d.Name, d.N)
}

// DecodeMsgpack implements msgpack.CustomDecoder.
func (d *Duo) DecodeMsgpack(dec *msgpack.Decoder) error {
	if n, err := dec.DecodeArrayLen(); err != nil || n != 2 {
		return errors.Join(err, errors.New("no pair"))
	}
	return dec.DecodeMulti(&d.Name, &d.N)
}

// Raw is one MessagePack value, unchanged.
type Raw string

// MarshalMsgpack implements msgpack.Marshaler.
func (r Raw) MarshalMsgpack() ([]byte, error) {
	if r == "" {
		return []byte{0xc0}, nil
	}
	return []byte(r), nil
}

// UnmarshalMsgpack implements msgpack.Unmarshaler.
func (r *Raw) UnmarshalMsgpack(b []byte) error {
	*r = Raw(b)
	return nil
}

// Version marshals itself as binary, without a way to append.
type Version struct{ Major, Minor uint8 }

// MarshalBinary implements encoding.BinaryMarshaler.
func (v Version) MarshalBinary() ([]byte, error) { return []byte{v.Major, v.Minor}, nil }

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (v *Version) UnmarshalBinary(b []byte) error {
	if len(b) != 2 {
		return errors.New("no version")
	}
	v.Major, v.Minor = b[0], b[1]
	return nil
}

// Many takes a struct of more than 64 fields, so the decoder's `seen` needs two words.
//
//task:io
func Many(ctx context.Context, many Wide) error { return nil }

// Wide has 70 fields, the first and last of which may be left out.
type Wide struct {
	First                                  int `msgpack:",omitempty"`
	A0, A1, A2, A3, A4, A5, A6, A7, A8, A9 int
	B0, B1, B2, B3, B4, B5, B6, B7, B8, B9 int
	C0, C1, C2, C3, C4, C5, C6, C7, C8, C9 int
	D0, D1, D2, D3, D4, D5, D6, D7, D8, D9 int
	E0, E1, E2, E3, E4, E5, E6, E7, E8, E9 int
	F0, F1, F2, F3, F4, F5, F6, F7, F8, F9 int
	G0, G1, G2, G3, G4, G5, G6, G7         int
	Last                                   int `msgpack:",omitempty"`
}

// Nothing takes nothing.
//
//task:io
func Nothing(ctx context.Context) (map[string][]string, error) { return nil, nil }

// Dense takes values that are much larger in memory than on the wire.
//
//task:io
func Dense(ctx context.Context, rows []Row, deep [][][]string, numbers []*int, refs []**Item, tables []map[string]int, index map[int64]Row,
	rowsOf map[string][]Row, big []*big.Int, ratios []big.Rat, reals []big.Float, amounts []Amount, links []*url.URL, patterns []*regexp.Regexp,
	addrs []netip.Addr, pairs [][2]Row, words []string, blobs [][]byte, times []time.Time, duos []Duo, ids map[uint32]struct{}, trees map[string]Forest,
) error {
	return nil
}

// Row may encode as one byte, and is large.
type Row struct {
	A string            `msgpack:",omitempty"`
	B []byte            `msgpack:",omitempty"`
	C time.Time         `msgpack:",omitempty"`
	D [8]int64          `msgpack:",omitempty"`
	E map[string]string `msgpack:",omitempty"`
	F []string          `msgpack:",omitempty"`
	G *netip.Addr       `msgpack:",omitempty"`
	H [16]byte          `msgpack:",omitempty"`
}

// Amount embeds a number of any size.
type Amount struct{ *big.Int }

// MarshalText implements encoding.TextMarshaler.
func (a Amount) MarshalText() ([]byte, error) { return a.Int.MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Amount) UnmarshalText(b []byte) error {
	a.Int = new(big.Int)
	return a.Int.UnmarshalText(b)
}
