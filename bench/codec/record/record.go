// Package record holds the task whose parameter the codec benchmark writes and
// reads: one field of each kind that travels.
package record

import (
	"context"
	"net/netip"
	"time"
)

//go:generate go tool taskgen

// Level is an enumeration.
type Level int8

// Levels of a record.
const (
	Debug Level = iota
	Info
	Warn
)

// Inner is a struct in a struct.
type Inner struct {
	ID   string
	Rank int
}

// Page is a generic struct.
type Page[T any] struct {
	Items []T
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
	Addr    netip.Addr
	Page    Page[Inner]
}

// Store takes a record.
//
//task:io
func Store(ctx context.Context, record Record) error { return nil }

// Sample is the record that is measured.
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
		Level:   Warn,
		Key:     [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Addr:    netip.MustParseAddr("192.0.2.33"),
		Page:    Page[Inner]{Items: []Inner{{"a", 1}, {"b", 2}}, Next: "more"},
	}
}
