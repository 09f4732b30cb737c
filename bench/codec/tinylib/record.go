// Package tinylib is the benchmark's record with the codec that tinylib/msgp
// generates for it. The work is the same as taskgen's:
//
//   - netip.Addr, which msgp does not know, is wrapped in a type with msgp's
//     methods written by hand, over AppendBinary and UnmarshalBinary, into the
//     same bytes and without copying them in between;
//   - Page[Inner], as msgp writes no code for instances of generics, is a
//     struct of the same fields;
//   - the fields' keys are the fields' names, and times are MessagePack's own
//     timestamps.
//
// What msgp does less of: it writes maps in any order, and takes duplicate and
// missing keys.
package tinylib

import (
	"net/netip"
	"time"

	"github.com/tinylib/msgp/msgp"
)

//go:generate go tool msgp -o record_gen.go -tests=false -io=false

//msgp:newtime
//msgp:ignore Addr

// Level is an enumeration.
type Level int8

// Inner is a struct in a struct.
type Inner struct {
	ID   string
	Rank int
}

// Page stands for Page[Inner].
type Page struct {
	Items []Inner
	Next  string
}

// Record has fifteen fields.
type Record struct {
	Name    string
	Count   int64
	Ratio   float64
	Active  bool
	Data    []byte
	Created time.Time
	Wait    time.Duration
	Tags    []string
	Scores  map[string]int
	Inner   Inner
	Parent  *Inner
	Level   Level
	Key     [16]byte
	Addr    Addr
	Page    Page
}

// StoreParams stands for the parameters of the task.
type StoreParams struct {
	Record Record `msg:"record"`
}

// Addr is a netip.Addr that msgp can call.
type Addr netip.Addr

// MarshalMsg implements msgp.Marshaler.
func (a Addr) MarshalMsg(b []byte) ([]byte, error) {
	var buf [16]byte
	v, err := netip.Addr(a).AppendBinary(buf[:0])
	return msgp.AppendBytes(b, v), err
}

// UnmarshalMsg implements msgp.Unmarshaler.
func (a *Addr) UnmarshalMsg(b []byte) ([]byte, error) {
	v, b, err := msgp.ReadBytesZC(b)
	if err != nil {
		return b, err
	}
	return b, (*netip.Addr)(a).UnmarshalBinary(v)
}

// Msgsize implements msgp.Sizer.
func (Addr) Msgsize() int { return msgp.BytesPrefixSize + 16 }

// Sample is the record that is measured, with the values of taskgen's.
func Sample() Record {
	return Record{
		Name:    "reference record",
		Count:   1 << 40,
		Ratio:   0.25,
		Active:  true,
		Data:    []byte("twenty bytes of data"),
		Created: time.Date(2026, 3, 1, 12, 30, 0, 123456789, time.UTC),
		Wait:    90 * time.Second,
		Tags:    []string{"alpha", "beta", "gamma"},
		Scores:  map[string]int{"first": 1, "second": 200, "third": 70000},
		Inner:   Inner{ID: "inner", Rank: 3},
		Parent:  &Inner{ID: "parent", Rank: -7},
		Level:   2,
		Key:     [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Addr:    Addr(netip.MustParseAddr("192.0.2.33")),
		Page:    Page{Items: []Inner{{"a", 1}, {"b", 2}}, Next: "more"},
	}
}
