package main

import (
	"bytes"
	"encoding/json"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/taskgen/taskgen/bench/codec/record"
	"github.com/taskgen/taskgen/bench/codec/tinylib"
	"github.com/taskgen/taskgen/codec"
)

// format is one codec for the sample. Encoding makes new bytes. Decoding makes new
// parameters on the heap, as a client and a consumer do.
type format struct {
	name           string
	encode, decode func() error
}

// baseline is the index of the codec that the others are compared with.
const baseline = 1

func codecs() []format { return []format{generated(), msgp(), reflected(), jsonFormat()} }

// generated is taskgen's codec.
func generated() format {
	params := record.StoreParams{Record: record.Sample()}
	data := must(params.AppendMsgpack(nil))
	var decoded *record.StoreParams
	return format{
		name: "taskgen",
		encode: func() error {
			_, err := params.AppendMsgpack(nil)
			return err
		},
		decode: func() error {
			decoded = new(record.StoreParams)
			r := codec.NewReader(data)
			decoded.ReadMsgpack(r)
			return r.Done()
		},
	}
}

// msgp is the codec that tinylib/msgp generates.
func msgp() format {
	params := tinylib.StoreParams{Record: tinylib.Sample()}
	data := must(params.MarshalMsg(nil))
	var decoded *tinylib.StoreParams
	return format{
		name: "tinylib/msgp",
		encode: func() error {
			_, err := params.MarshalMsg(nil)
			return err
		},
		decode: func() error {
			decoded = new(tinylib.StoreParams)
			_, err := decoded.UnmarshalMsg(data)
			return err
		},
	}
}

// plainParams are parameters without methods, for codecs with reflection.
type plainParams struct {
	Record record.Record `msgpack:"record" json:"record"`
}

// reflected is msgpack/v5 with reflection.
func reflected() format {
	params := plainParams{Record: record.Sample()}
	encode := func() ([]byte, error) {
		var buf bytes.Buffer
		enc := msgpack.GetEncoder()
		defer msgpack.PutEncoder(enc)
		enc.Reset(&buf)
		enc.UseCompactInts(true)
		err := enc.Encode(&params)
		return buf.Bytes(), err
	}
	data := must(encode())
	return format{
		name:   "msgpack/v5",
		encode: func() error { _, err := encode(); return err },
		decode: func() error {
			var p plainParams
			return msgpack.Unmarshal(data, &p)
		},
	}
}

func jsonFormat() format {
	params := plainParams{Record: record.Sample()}
	data := must(json.Marshal(&params))
	return format{
		name:   "encoding/json",
		encode: func() error { _, err := json.Marshal(&params); return err },
		decode: func() error {
			var p plainParams
			return json.Unmarshal(data, &p)
		},
	}
}

// must returns the sample's bytes. If they are missing, the first round reports the
// error.
func must(b []byte, _ error) []byte { return b }
