package main

import (
	"encoding/json"
	"io"
	"testing"
	"time"

	"github.com/taskgen/taskgen/bench/codec/record"
	"github.com/taskgen/taskgen/bench/codec/tinylib"
	"github.com/taskgen/taskgen/codec"
)

func BenchmarkEncode(b *testing.B) {
	for _, c := range codecs() {
		b.Run(c.name, func(b *testing.B) { repeat(b, c.encode) })
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range codecs() {
		b.Run(c.name, func(b *testing.B) { repeat(b, c.decode) })
	}
}

func repeat(b *testing.B, op func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := op(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestSameWork checks that both generated codecs carry the same values: each
// reads what the other wrote.
func TestSameWork(t *testing.T) {
	ours := record.StoreParams{Record: record.Sample()}
	data, err := ours.AppendMsgpack(nil)
	if err != nil {
		t.Fatal(err)
	}
	var theirs tinylib.StoreParams
	if _, err := theirs.UnmarshalMsg(data); err != nil {
		t.Fatalf("msgp reads what taskgen wrote: %v", err)
	}
	again, err := theirs.MarshalMsg(nil)
	if err != nil {
		t.Fatal(err)
	}
	// msgp writes 200 as a signed integer of 16 bits, one byte more.
	if len(again) != len(data)+1 {
		t.Fatalf("msgp wrote %d bytes, taskgen %d", len(again), len(data))
	}
	var back record.StoreParams
	r := codec.NewReader(again)
	back.ReadMsgpack(r)
	if err := r.Done(); err != nil {
		t.Fatalf("taskgen reads what msgp wrote: %v", err)
	}
	if got, want := text(t, back), text(t, ours); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCompare(t *testing.T) {
	if err := compare(io.Discard, 1, time.Millisecond); err != nil {
		t.Fatal(err)
	}
}
