//go:build !race

// The race detector allocates too.

package codectest

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

// dense is a payload of a MiB with as many of the elements as fit, all of them
// really there, as the value of one of the parameters of Dense.
func dense(key string, header byte, element func(i int) []byte) []byte {
	const size = 1 << 20
	b := append(codec.AppendString([]byte{0x81}, key), header, 0, 0, 0, 0)
	at := len(b)
	n := 0
	for next := element(0); len(b)+len(next) <= size; next = element(n) {
		b = append(b, next...)
		n++
	}
	binary.BigEndian.PutUint32(b[at-4:], uint32(n))
	return b
}

// live is how many bytes are in use.
func live() int {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

func list(key, element string) []byte {
	return dense(key, 0xdd, func(int) []byte { return []byte(element) })
}

func table(key string, pair func(i int) []byte) []byte { return dense(key, 0xdf, pair) }

// number is the i-th of the shortest keys.
func number(i int) []byte { return codec.AppendInt(nil, int64(i)) }

// word is the i-th of short texts.
func word(i int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(i))
	return codec.AppendString(nil, string(bytes.TrimRight(b, "\x00")))
}

// TestDenseBytes decodes a MiB of values that are small on the wire and large in
// memory, and complete. It must be refused before it takes more than 16 MiB.
func TestDenseBytes(t *testing.T) {
	for name, b := range map[string][]byte{
		"structs of left out fields": list("rows", "\x80"),
		"lists":                      list("deep", "\x90"),
		"lists of lists":             list("deep", "\x91\x90"),
		"lists of lists of lists":    list("deep", "\x92\x91\xa0\x90"),
		"pointers":                   list("numbers", "\x01"),
		"nils":                       list("numbers", "\xc0"),
		"pointers to pointers":       list("refs", "\x82\xa2ID\xa0\xa4Rank\x01"),
		"empty maps":                 list("tables", "\x80"),
		"maps of one":                list("tables", "\x81\xa0\x01"),
		"maps of nine":               list("tables", "\x89\xa0\x01\xa1a\x01\xa1b\x01\xa1c\x01\xa1d\x01\xa1e\x01\xa1f\x01\xa1g\x01\xa1h\x01"),
		"a map of structs":           table("index", func(i int) []byte { return append(number(i), 0x80) }),
		"a map of lists":             table("rowsOf", func(i int) []byte { return append(word(i), 0x90) }),
		"a map of lists of structs":  table("rowsOf", func(i int) []byte { return append(word(i), 0x91, 0x80) }),
		"a set":                      table("ids", func(i int) []byte { return append(number(i), 0x80) }),
		"maps of maps":               table("trees", func(i int) []byte { return append(word(i), 0x81, 0xa0, 0x80) }),
		"big numbers":                list("big", "\xa11"),
		"big ratios":                 list("ratios", "\xa31/3"),
		"big floats":                 list("reals", "\xa11"),
		"embedded numbers":           list("amounts", "\xa11"),
		"links":                      list("links", "\xa3//@"),
		"links without anything":     list("links", "\xa0"),
		"patterns":                   list("patterns", "\xa7a{1000}"),
		"patterns of classes":        list("patterns", "\xa3\\pL"),
		"addresses":                  list("addrs", "\xc4\x04\x7f\x00\x00\x01"),
		"arrays of structs":          list("pairs", "\x92\x80\x80"),
		"no words":                   list("words", "\xa0"),
		"short words":                list("words", "\xa9123456789"),
		"short blobs":                list("blobs", "\xc4\x01x"),
		"times":                      list("times", "\xd6\xff\x00\x00\x00\x00"),
		"types with decoders":        list("duos", "\x92\xa1x\x01"),
	} {
		t.Run(name, func(t *testing.T) {
			const most = codec.MemoryFactor << 20
			p := new(DenseParams)
			r := codec.NewReader(b)
			before := live()
			made := allocated(func() { p.ReadMsgpack(r) })
			kept := live() - before
			require.Error(t, r.Err()) // of the limit, or as the other parameters are missing
			t.Logf("%.1f MiB live of %.1f: %v", float64(kept)/(1<<20), float64(made)/(1<<20), r.Err())
			require.LessOrEqual(t, kept, most)
			require.LessOrEqual(t, made, uint64(most+most/2), "with what methods of types leave behind")
			runtime.KeepAlive(p)
		})
	}
}

// TestHonestMegabyte decodes a MiB of ordinary parameters.
func TestHonestMegabyte(t *testing.T) {
	for name, b := range map[string][]byte{
		"words":              list("words", "\xa3two"),
		"blobs":              list("blobs", "\xc4\x04four"),
		"times":              list("times", "\xd6\xff\x00\x00\x00\x00"),
		"rows with a text":   list("rows", "\x81\xa1A\xd9\x28it takes forty bytes and is what one has"),
		"references":         list("refs", "\x82\xa2ID\xa3two\xa4Rank\x01"),
		"numbers":            list("numbers", "\xcd\x12\x34"),
		"matrices":           list("deep", "\x91\x92\xa2to\xa3two"),
		"tables":             list("tables", "\x83\xa5first\x01\xa6second\x02\xa5third\xcd\x03\x04"),
		"an index":           table("ids", func(i int) []byte { return append(codec.AppendUint(nil, uint64(i)+70_000), 0x80) }),
		"a table of lists":   table("rowsOf", func(i int) []byte { return append(codec.AppendString(nil, "customer-"+string(word(i))), 0x90) }),
		"addresses":          list("addrs", "\xc4\x04\x7f\x00\x00\x01"),
		"big numbers":        list("big", "\xac123456789012"),
		"links":              list("links", "\xb8https://example.com/page"),
		"one large number":   append(codec.AppendString([]byte{0x81}, "big"), append([]byte{0x91}, codec.AppendString(nil, strings.Repeat("9", codec.MaxDigits))...)...),
		"types with methods": list("duos", "\x92\xa3two\x01"),
		"filters":            filters(1000, `^/api/v[0-9]{1,3}/(users|orders)/\d{4}-\d{2}$`),
		"filters of letters": filters(40, `(?i)^\p{L}{2}[а-яё]+ [[:alnum:]_.-]{1,64}@example\.(com|org)$`),
	} {
		t.Run(name, func(t *testing.T) {
			var p DenseParams
			r := codec.NewReader(b)
			used := allocated(func() { p.ReadMsgpack(r) })
			t.Logf("%.1f MiB", float64(used)/(1<<20))
			require.ErrorContains(t, r.Err(), "are missing") // all others
		})
	}
}
