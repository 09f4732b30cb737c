package codectest

import (
	"bytes"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/codec"
)

// shape is one encoded type: a task's parameters or result.
type shape struct {
	name    string
	decode  func(b []byte) (any, error) // by the generated code, into a new value
	encode  func(v any) ([]byte, error) // of a value that decode returned
	plain   reflect.Type                // the same type for msgpack/v5, without the generated methods
	keys    []string                    // of parameters
	samples []any
}

// paramsOf is the shape of a task's parameters.
func paramsOf[P any](appendTo func(*P, []byte) ([]byte, error), read func(*P, *codec.Reader), samples ...P) *shape {
	s := resultOf(func(b []byte, p *P) ([]byte, error) { return appendTo(p, b) }, func(r *codec.Reader, p *P) { read(p, r) }, samples...)
	s.plain, s.keys = plainParams(reflect.TypeFor[P]())
	return s
}

// resultOf is the shape of a task's result.
func resultOf[R any](appendTo func([]byte, *R) ([]byte, error), read func(*codec.Reader, *R), samples ...R) *shape {
	s := &shape{name: reflect.TypeFor[R]().String(), plain: reflect.TypeFor[R]()}
	s.decode = func(b []byte) (any, error) {
		v := new(R)
		r := codec.NewReader(b)
		read(r, v)
		return v, r.Done()
	}
	s.encode = func(v any) ([]byte, error) { return appendTo(nil, v.(*R)) }
	for _, v := range append(samples, *new(R)) {
		s.samples = append(s.samples, &v)
	}
	return s
}

// plainParams is a struct of the same fields as generated parameters, keyed by
// the parameters' names.
func plainParams(params reflect.Type) (plain reflect.Type, keys []string) {
	var fields []reflect.StructField
	for i := range params.NumField() {
		f := params.Field(i)
		key := strings.ToLower(f.Name[:1]) + f.Name[1:]
		keys = append(keys, key)
		fields = append(fields, reflect.StructField{Name: f.Name, Type: f.Type, Tag: reflect.StructTag(fmt.Sprintf("msgpack:%q", key))})
	}
	return reflect.StructOf(fields), keys
}

// reference returns the encoding by msgpack/v5 of a value that decode returned.
func (s *shape) reference(v any) ([]byte, error) {
	plain := reflect.New(s.plain)
	plain.Elem().Set(reflect.ValueOf(v).Elem().Convert(s.plain))
	return marshal(plain.Interface())
}

// referenceOf returns the encoding by msgpack/v5 of the value that it decodes from b.
func (s *shape) referenceOf(b []byte) ([]byte, error) {
	plain := reflect.New(s.plain)
	dec := msgpack.NewDecoder(bytes.NewReader(b))
	if err := dec.Decode(plain.Interface()); err != nil {
		return nil, err
	}
	return marshal(plain.Interface())
}

func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := msgpack.NewEncoder(&buf)
	enc.UseCompactInts(true)
	enc.SetSortMapKeys(true)
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// canonical is b, one value, with the pairs of all maps in the order of their
// keys' bytes: msgpack/v5 sorts only maps of strings to strings, bools or any.
func canonical(b []byte) []byte {
	r := codec.NewReader(b)
	out := canonicalValue(nil, r)
	if err := r.Done(); err != nil {
		return fmt.Appendf(nil, "%q: %v", b, err)
	}
	return out
}

func canonicalValue(out []byte, r *codec.Reader) []byte {
	at := *r
	raw := r.Raw()
	if r.Err() != nil {
		return out
	}
	inside := at
	switch c := raw[0]; {
	case c&0xf0 == 0x80, c == 0xde, c == 0xdf:
		n := inside.MapLen()
		pairs := make([]string, 0, n)
		for range n {
			key := inside.Raw()
			pairs = append(pairs, string(canonicalValue(slices.Clone(key), &inside)))
		}
		slices.Sort(pairs)
		return append(codec.AppendMapLen(out, n), strings.Join(pairs, "")...)
	case c&0xf0 == 0x90, c == 0xdc, c == 0xdd:
		n := inside.ArrayLen()
		out = codec.AppendArrayLen(out, n)
		for range n {
			out = canonicalValue(out, &inside)
		}
		return out
	}
	return append(out, raw...)
}

func scalars() *shape {
	return paramsOf((*ScalarsParams).AppendMsgpack, (*ScalarsParams).ReadMsgpack,
		ScalarsParams{true, -1, -33, -129, math.MinInt16 - 1, math.MinInt32 - 1, 1 << 20, 200, 40000, math.MaxUint32, math.MaxUint64, 1.5, math.Pi, "text"},
		ScalarsParams{false, math.MaxInt, math.MinInt8, math.MaxInt16, math.MinInt32, math.MaxInt64, math.MaxUint, math.MaxUint8, math.MaxUint16, 1, 1 << 63, float32(math.Inf(-1)), math.NaN(), strings.Repeat("ü", 200)},
	)
}

func named() *shape {
	return paramsOf((*NamedParams).AppendMsgpack, (*NamedParams).ReadMsgpack,
		NamedParams{-3, "name", 0.25, true, time.Minute, time.Unix(1, 2)},
		NamedParams{7, "", -1, false, -time.Hour, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)},
	)
}

func binaries() *shape {
	return paramsOf((*BinaryParams).AppendMsgpack, (*BinaryParams).ReadMsgpack,
		BinaryParams{[]byte("data"), Blob{}, [16]byte{15: 1}, []Octet{1, 2}, [2]Octet{3, 4}, [][]byte{nil, {}, []byte("part")}},
		BinaryParams{Data: make([]byte, 300), Blob: make(Blob, 70000)},
	)
}

func lists() *shape {
	addr := netip.MustParseAddr("2001:db8::1%eth0")
	return paramsOf((*ListsParams).AppendMsgpack, (*ListsParams).ReadMsgpack,
		ListsParams{
			[]string{"a", ""}, [][]int32{nil, {}, {1, -1}}, [3]int16{1, 2, 300}, [2][2]bool{{true}}, []Item{{"i", 1}},
			[]*Item{nil, {"p", 2}}, []time.Time{time.Unix(5, 0)}, []netip.Addr{addr, {}}, []Sparse{{}, {Name: "s", Parent: &Item{}}},
			[2]Item{{"r", 3}}, []map[string]int{nil, {}, {"one": 1}},
		},
		ListsParams{Words: make([]string, 20), Grid: make([][]int32, 70000)},
	)
}

func mapsOf() *shape {
	return paramsOf((*MapsParams).AppendMsgpack, (*MapsParams).ReadMsgpack,
		MapsParams{
			map[string]int{"b": 2, "a": 1, "": 0}, map[string]string{"k": "v", "j": "w"}, map[int64]Item{-1: {"m", 1}, 1 << 40: {}},
			map[Name]Level{"n": 1}, map[string]map[uint8][]string{"x": {1: {"y"}, 2: nil}, "z": nil}, map[int16]*Item{3: nil, 4: {"q", 1}},
			map[string][]Item{"l": {{"e", 1}}},
		},
		MapsParams{Counts: map[string]int{}, Texts: map[string]string{}},
	)
}

func keyed() *shape {
	return paramsOf((*KeyedParams).AppendMsgpack, (*KeyedParams).ReadMsgpack,
		KeyedParams{
			map[bool]string{true: "t", false: "f"}, map[[16]byte]Item{{1}: {"one", 1}, {}: {}},
			map[netip.Addr]map[bool]int{netip.MustParseAddr("::1"): {true: 1}, netip.MustParseAddr("10.0.0.1"): nil},
			map[Celsius][]string{0: nil, 7: {"a"}}, map[[2]string]int{{"a", "b"}: 1, {"b", "a"}: 2, {}: 3},
			map[Version]Item{{1, 2}: {"a", 1}, {}: {"b", 2}}, map[time.Time]bool{time.Unix(1, 2).UTC(): true}, map[Raw]string{"\x01": "one", "\xa1a": "a"},
		},
		KeyedParams{Flags: map[bool]string{}, Ids: map[[16]byte]Item{}, Raws: map[Raw]string{}},
	)
}

func pointers() *shape {
	n, s, at, addr := 7, "pointed", time.Unix(9, 9), netip.MustParseAddr("192.0.2.1")
	p := &s
	return paramsOf((*PointersParams).AppendMsgpack, (*PointersParams).ReadMsgpack,
		PointersParams{&n, &p, &Item{"i", 1}, &[]string{"l"}, &map[string]int{"t": 1}, &at, &addr})
}

func structs() *shape {
	return paramsOf((*StructsParams).AppendMsgpack, (*StructsParams).ReadMsgpack,
		StructsParams{
			Item{"i", 1}, Tagged{"t", "", 3, true}, Page[Item]{[]Item{{"a", 1}}, "next"},
			Outer{Item{"o", 2}, Page[string]{[]string{"p"}, ""}, Sparse{Ratio: 0.5, Tags: []string{"t"}, Extra: map[string]string{"k": "v"}, Count: 3}},
			struct{ X, Y int32 }{1, -1}, Empty{},
		})
}

func own() *shape {
	return paramsOf((*OwnParams).AppendMsgpack, (*OwnParams).ReadMsgpack,
		OwnParams{netip.MustParseAddr("10.0.0.1"), url.URL{Scheme: "https", Host: "example.com", Path: "/" + strings.Repeat("x", 300)}, 300, Duo{"d", -1}, "\x93\x01\x02\x80", Version{1, 2}})
}

func many() *shape {
	return paramsOf((*ManyParams).AppendMsgpack, (*ManyParams).ReadMsgpack, ManyParams{Wide{First: 1, A0: 2, G7: -3, Last: 4}})
}

func nothing() *shape { return paramsOf((*NothingParams).AppendMsgpack, (*NothingParams).ReadMsgpack) }

func trees() *shape {
	return paramsOf((*TreesParams).AppendMsgpack, (*TreesParams).ReadMsgpack,
		TreesParams{Tree{1, []Tree{{2, nil}, {3, []Tree{{4, nil}}}}}, &Chain{"a", &Chain{"b", nil}}})
}

func recursiveResult() *shape {
	return resultOf(treesTask.AppendResult, treesTask.ReadResult, Forest{"a": {"b": {}, "c": nil}})
}

// shapes are all of them.
func shapes() []*shape {
	return []*shape{
		scalars(), named(), binaries(), lists(), mapsOf(), keyed(), pointers(), structs(), own(), many(), nothing(), trees(),
		textResult(), timeResult(), bytesResult(), itemsResult(), mapResult(), pointerResult(), structResult(), customResult(), nestedResult(), recursiveResult(),
	}
}

func textResult() *shape { return resultOf(scalarsTask.AppendResult, scalarsTask.ReadResult, "text") }

func timeResult() *shape {
	return resultOf(namedTask.AppendResult, namedTask.ReadResult, time.Unix(1<<33, 1))
}

func bytesResult() *shape {
	return resultOf(binaryTask.AppendResult, binaryTask.ReadResult, []byte("bytes"), []byte{})
}

func itemsResult() *shape {
	return resultOf(listsTask.AppendResult, listsTask.ReadResult, []Item{{"a", 1}, {"b", 2}})
}

func mapResult() *shape {
	return resultOf(mapsTask.AppendResult, mapsTask.ReadResult, map[string]Item{"a": {"b", 1}, "c": {}})
}

func pointerResult() *shape {
	return resultOf(pointersTask.AppendResult, pointersTask.ReadResult, &Item{"a", 1})
}

func structResult() *shape {
	return resultOf(structsTask.AppendResult, structsTask.ReadResult, Outer{Item: Item{"a", 1}})
}

func customResult() *shape {
	return resultOf(ownTask.AppendResult, ownTask.ReadResult, Duo{"a", 1})
}

func nestedResult() *shape {
	return resultOf(nothingTask.AppendResult, nothingTask.ReadResult, map[string][]string{"a": {"b"}, "c": nil})
}
