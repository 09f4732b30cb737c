package jsonform_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/jsonform"
)

var farFuture = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)

// result returns the form of a result.
func result(t *testing.T, line string) *jsonform.Form {
	t.Helper()
	f, err := jsonform.Result(line)
	require.NoError(t, err, line)
	return f
}

func params(t *testing.T, line string) *jsonform.Form {
	t.Helper()
	f, err := jsonform.Params(line)
	require.NoError(t, err, line)
	return f
}

// TestFormsOfValues checks what JSON is read as which bytes, and how they are written.
func TestFormsOfValues(t *testing.T) {
	for _, c := range []struct{ line, json, payload, written string }{
		{"bool", "true", "c3", ""},
		{"string", `"a\u00e4\ud83d\ude00\n"`, "a8" + hex.EncodeToString([]byte("aä😀\n")), `"aä😀\n"`},
		{"string", `"\u0000\u001f<>"`, "a4001f3c3e", `"\u0000\u001f<>"`},
		{"int8", "-128", "d080", ""},
		{"uint8", "255", "ccff", ""},
		{"int64", "9007199254740991", "cf001fffffffffffff", ""},
		{"int64", "9007199254740993", "cf0020000000000001", `"9007199254740993"`},
		{"int64", `"9007199254740993"`, "cf0020000000000001", ""},
		{"int64", "-9223372036854775808", "d38000000000000000", `"-9223372036854775808"`},
		{"uint64", "18446744073709551615", "cfffffffffffffffff", `"18446744073709551615"`},
		{"uint64", "1.8446744073709551615e19", "cfffffffffffffffff", `"18446744073709551615"`},
		{"int", `"-7"`, "f9", "-7"},
		{"int16", "1e3", "cd03e8", "1000"},
		{"int16", "12.50e1", "7d", "125"},
		{"int16", "0.0e999999999999", "00", "0"},
		{"int16", "-0", "00", "0"},
		{"float64", "0.1", "cb3fb999999999999a", ""},
		{"float64", "-0", "cb8000000000000000", ""},
		{"float64", "1e400000", "", ""},
		{"float64", `"NaN"`, "cb7ff8000000000001", ""},
		{"float64", `"-Infinity"`, "cbfff0000000000000", ""},
		{"float64", "123456789012345678901234567890", "cb45f8ee90ff6c373e", "1.2345678901234568e+29"},
		{"float32", "0.1", "ca3dcccccd", ""},
		{"time", `"2026-11-30T20:15:00.123456789+02:00"`, "d7ff1d6f34546b0dbd24", `"2026-11-30T18:15:00.123456789Z"`},
		{"time", `"0001-01-01T00:00:00Z"`, "c70cff00000000fffffff1886e0900", ""},
		{"time", `"2026-11-30T20:15:00.1000000000000Z"`, "d7ff17d784006b0dd944", `"2026-11-30T20:15:00.1Z"`},
		{"duration", `"1m30s"`, "cf00000014f46b0400", ""},
		{"duration", "90000000000", "cf00000014f46b0400", `"1m30s"`},
		{"duration", `"90000000000"`, "cf00000014f46b0400", `"1m30s"`},
		{"duration", `"-2562047h47m16.854775808s"`, "d38000000000000000", ""},
		{"bytes", `"3q0="`, "c402dead", ""},
		{"bytes", `""`, "c400", ""},
		{"bytes", "null", "c0", ""},
		{"bytes(2)", `"3q0="`, "c402dead", ""},
		{"[int]", "[1, 2 ,3]", "93010203", "[1,2,3]"},
		{"[int]", "null", "c0", ""},
		{"[int]", "[]", "90", ""},
		{"[2]bool", "[true,false]", "92c3c2", ""},
		{"map[string]int", `{"b":1,"a":2}`, "82a16102a16201", `{"a":2,"b":1}`},
		{"map[int8]bool", `{"1":true,"-2":false,"-1":true}`, "83fec2ffc301c3", `{"-2":false,"-1":true,"1":true}`},
		{"map[uint64]bool", `{"18446744073709551615":true}`, "81cfffffffffffffffffc3", ""},
		{"map[string]int", "null", "c0", ""},
		{"map[bool]int", `{"true":1,"false":2}`, "82c202c301", `{"false":2,"true":1}`},
		{"map[bool]int", `{"1":1}`, "", ""},
		{"map[bool]int", `{"true ":1,"true":2}`, "", ""},
		{"map[bool]int", `{"true x":1}`, "", ""},
		{"map[bytes(2)]int", `{"3q0=":1,"AAE=":2}`, "82c402000102c402dead01", `{"AAE=":2,"3q0=":1}`},
		{"map[bytes(2)]int", `{"AA==":1}`, "", ""},
		{"map[time]int", `{"2026-11-30T20:15:00+02:00":1}`, "81d6ff6b0dbd2401", `{"2026-11-30T18:15:00Z":1}`},
		{"map[text(net/netip.Addr)]int", `{"::1":1,"\u00e9\"":2,"":3}`, "83c40003c4033a3a3101c403c3a92202", `{"":3,"::1":1,"é\"":2}`},
		{"map[binary(a.B)]int", `{"AQI=":1}`, "81c402010201", ""},
		{"map[custom(a.B)]int", `{"[1,\"a\"]":1,"\"a\"":2,"null":3}`, "839201a16101a16102c003", ""},
		{"map[[2]string]int", `{"[\"a\", \"b\"]":1}`, "8192a161a16201", `{"[\"a\",\"b\"]":1}`},
		{"map[[2]string]int", `{"[\"a\"]":1}`, "", ""},
		{"map[[2]string]int", `{"a":1}`, "", ""},
		{"map[duration]int", `{"90000000000":1}`, "81cf00000014f46b040001", ""},
		{"*int", "null", "c0", ""},
		{"**int", "3", "03", ""},
		{"{a int, b string?, c *bool}", `{"b":"x","a":1}`, "82a16101a162a178", `{"a":1,"b":"x"}`},
		{"@N={v int, next *@N?}", `{"v":1,"next":{"v":2}}`, "82a17601a46e65787481a17602", ""},
		{"text(net/netip.Addr)", `"::1"`, "c4033a3a31", ""},
		{"binary(a.B)", `"AQI="`, "c4020102", ""},
		{"custom(a.B)", "null", "c0", ""},
		{"custom(a.B)", `["x",5,-1,1.0,2.5e300,true,null,{"k":[]}]`, "98a17805ffcb3ff0000000000000cb7e4ddd4baa009303c3c081a16b90", `["x",5,-1,1.0,2.5e+300,true,null,{"k":[]}]`},
		{"marshaler(a.B)", `{"b":1,"a":2}`, "82a16201a16102", ""},
		{"custom(a.B)", `[{"$msgpack":"ygAAAAA="}]`, "91ca00000000", ""},
		{"custom(a.B)", `9007199254740992`, "cf0020000000000000", `{"$msgpack":"zwAgAAAAAAAA"}`},
		{"custom(a.B)", `{"$msgpack":"gQEC"}`, "810102", ""},
		{"custom(a.B)", `{"$msgpack":"gqFhAaFhAg=="}`, "82a16101a16102", ""},
	} {
		f := result(t, c.line)
		payload, err := f.Encode([]byte(c.json))
		if c.payload == "" {
			require.Error(t, err, c.json)
			continue
		}
		require.NoError(t, err, "%s %s", c.line, c.json)
		require.Equal(t, c.payload, hex.EncodeToString(payload), "%s %s", c.line, c.json)
		written, err := f.Decode(payload)
		require.NoError(t, err, "%s %s", c.line, c.json)
		if c.written == "" {
			c.written = c.json
		}
		require.Equal(t, c.written, string(written), c.line)
		again, err := f.Encode(written)
		require.NoError(t, err, "%s %s", c.line, written)
		require.Equal(t, payload, again, "%s %s", c.line, written)
	}
}

// TestErrorsNameTheirPlace checks each problem with its pointer and words.
func TestErrorsNameTheirPlace(t *testing.T) {
	for _, c := range []struct{ line, json, want string }{
		{"id string", `{}`, "/id: this is missing: a string"},
		{"id string", `{"id":5}`, "/id: expected a string, found a number"},
		{"id string", `[]`, "the whole: expected an object, found an array"},
		{"id string", `null`, "the whole: expected an object, found null"},
		{"id string", `{"id":"a","id":"b"}`, "/id: this occurs twice"},
		{"id|old string", `{"id":"a","old":"b"}`, "/old: this occurs twice"},
		{"userID string, b int=", `{"userId":"a"}`, "/userId: no such field; did you mean userID?; /userID: this is missing: a string"},
		{"", `{"a/b~c":1}`, "/a~1b~0c: no such field; there are none"},
		{"n uint8, m [int8], f float32", `{"n":300,"m":[1,-129],"f":1e39}`, "/n: expected an integer from 0 to 255, found 300; /m/1: expected an integer from -128 to 127, found -129; /f: expected a number that float32 can hold, found 1e39"},
		{"n int64", `{"n":9223372036854775808}`, "/n: expected an integer from -9223372036854775808 to 9223372036854775807, found 9223372036854775808"},
		{"n int64", `{"n":"9223372036854775808"}`, `/n: expected an integer from -9223372036854775808 to 9223372036854775807, found "9223372036854775808"`},
		{"n int", `{"n":1.5}`, "/n: expected an integer from -9223372036854775808 to 9223372036854775807, found 1.5"},
		{"n uint8", `{"n":1e99999999999}`, "/n: expected an integer from 0 to 255, found 1e99999999999"},
		{"n uint8", `{"n":1e-99999999999}`, "/n: expected an integer from 0 to 255, found 1e-99999999999"},
		{"n int8", `{"n":"5"}`, "/n: expected an integer from -128 to 127, found a string"},
		{"n int", `{"n":"05"}`, `/n: expected an integer from -9223372036854775808 to 9223372036854775807, found "05"`},
		{"at time", `{"at":"2026-11-30 20:15"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-11-30 20:15"`},
		{"at time", `{"at":"2026-11-30T20:15:00.0000000001Z"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-11-30T20:15:00.0000000001Z"`},
		{"at time", `{"at":"2026-11-30T2:15:00Z"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-11-30T2:15:00Z"`},
		{"at time", `{"at":"2026-11-30T20:15:00,5Z"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-11-30T20:15:00,5Z"`},
		{"at time", `{"at":"2026-11-30T20:15:00+24:00"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-11-30T20:15:00+24:00"`},
		{"at time", `{"at":"9999-12-31T23:59:59-00:01"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "9999-12-31T23:59:59-00:01"`},
		{"at time", `{"at":"0000-01-01T00:00:00+00:01"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "0000-01-01T00:00:00+00:01"`},
		{"at time", `{"at":"2026-02-29T20:15:00Z"}`, `/at: expected a time such as 2006-01-02T15:04:05.999999999Z, found "2026-02-29T20:15:00Z"`},
		{"wait duration", `{"wait":"soon"}`, `/wait: expected a duration such as 1m30s, or a number of nanoseconds, found "soon"`},
		{"wait duration", `{"wait":true}`, `/wait: expected a duration such as 1m30s, or a number of nanoseconds, found a bool`},
		{"f float64", `{"f":"x"}`, "/f: expected a number, found a string"},
		{"b bytes", `{"b":"3q0"}`, `/b: expected bytes in base64, or null, found "3q0"`},
		{"b bytes", `{"b":"3q\n0="}`, `/b: expected bytes in base64, or null, found "3q\n0="`},
		{"b bytes(3)", `{"b":"3q0="}`, `/b: expected 3 bytes in base64, found 2 bytes`},
		{"b bytes(3)", `{"b":null}`, `/b: expected 3 bytes in base64, found null`},
		{"l [2]int", `{"l":[1]}`, `/l: expected an array of 2 elements, found 1`},
		{"m map[int8]int", `{"m":{"1":1,"01":1,"200":1,"-0":2}}`, `/m/01: expected a key that is an integer from -128 to 127, found "01"; /m/200: expected a key that is an integer from -128 to 127, found "200"; /m/-0: expected a key that is an integer from -128 to 127, found "-0"`},
		{"m map[string]int", `{"m":{"a":1,"\u0061":1}}`, `/m/a: this occurs twice`},
		{"p *[{x int}]", `{"p":[{"x":1},{"x":null}]}`, "/p/1/x: expected an integer from -9223372036854775808 to 9223372036854775807, found null"},
		{"c custom(a.B)", `{"c":{"a":1,"a":2}}`, "/c/a: this occurs twice"},
		{"c custom(a.B)", `{"c":{"$msgpack":"gQE="}}`, `/c/$msgpack: expected one MessagePack value in base64, found "gQE="`},
		{"c custom(a.B)", `{"c":{"a":1,"$msgpack":"wA=="}}`, "/c: expected no key beside $msgpack, found more"},
		{"a int", `{"a":1`, `the whole: expected a comma or }, found the end of the JSON`},
		{"a int", `{"a":1}}`, `the whole: expected the end, found '}'`},
		{"a int", `{"a":1,}`, `the whole: expected a string, found '}'`},
		{"a int", `{"a":01}`, `the whole: expected a comma or }, found '1'`},
		{"a int", `{"a":+1}`, `/a: expected a value, found '+'`},
		{"a string", "{\"a\":\"\xff\"}", `/a: expected UTF-8, found the byte 0xff`},
		{"a string", "{\"a\":\"\n\"}", `/a: expected an escaped control character, found '\n'`},
		{"a string", `{"a":"\ud800x"}`, `/a: expected a pair of surrogates, found one alone`},
		{"a string", `{"a":"\x"}`, `/a: expected an escape of JSON, found a \ without one`},
		{"a string", ``, `the whole: expected a value, found the end of the JSON`},
		{"a string", "{\"a\":\"x\"}\x00", `the whole: expected the end, found '\x00'`},
	} {
		_, err := params(t, c.line).Encode([]byte(c.json))
		require.EqualError(t, err, c.want, "%s %s", c.line, c.json)
		var first *jsonform.Error
		require.ErrorAs(t, err, &first)
	}
}

// TestSecretsAreKept checks that neither JSON nor an error has a secret's value, and that
// the mask stands for the old one.
func TestSecretsAreKept(t *testing.T) {
	f := params(t, "to string, password|pass string, key {id uint8, tags map[string]int}")
	secrets := []string{"Password", "key"}
	payload, err := f.Encode([]byte(`{"to":"ada","password":"hunter2","key":{"id":1,"tags":{"s3cret":1}}}`))
	require.NoError(t, err)
	shown, err := f.DecodeWith(payload, jsonform.Output{Secrets: secrets})
	require.NoError(t, err)
	require.Equal(t, `{"to":"ada","password":"***","key":"***"}`, string(shown))

	edited, err := f.EncodeWith([]byte(`{"to":"bob","password":"***","key":"***"}`), jsonform.Input{Secrets: secrets, Old: payload})
	require.NoError(t, err)
	back, err := f.Decode(edited)
	require.NoError(t, err)
	require.Equal(t, `{"to":"bob","password":"hunter2","key":{"id":1,"tags":{"s3cret":1}}}`, string(back))

	_, err = f.EncodeWith([]byte(`{"to":"bob","password":"***","key":{"id":999,"tags":{"s3cret":"hidden7"}}}`), jsonform.Input{Secrets: secrets})
	require.EqualError(t, err, "/password: *** stands for a secret; give its value; "+
		"/key: expected an integer from 0 to 255, found another value; "+
		"/key: expected an integer from -9223372036854775808 to 9223372036854775807, found another value")

	// A task without secrets may well be given three asterisks.
	payload, err = f.Encode([]byte(`{"to":"***","password":"***","key":{"id":1,"tags":null}}`))
	require.NoError(t, err)
	shown, err = f.Decode(payload)
	require.NoError(t, err)
	require.Equal(t, `{"to":"***","password":"***","key":{"id":1,"tags":null}}`, string(shown))
}

// TestWhatJSONCannotHold checks that it is an error, and written nearly on request.
func TestWhatJSONCannotHold(t *testing.T) {
	for _, c := range []struct{ line, payload, want, nearly string }{
		{"[string]", "91a2ff41", "/0: expected UTF-8, found other bytes", `["�A"]`},
		{"text(a.B)", "c401ff", "the whole: expected UTF-8, found other bytes", `"�"`},
		{"time", "c70cff000000000000003afff4417f", "the whole: expected a year from 0 to 9999, found 9999", ""},
		{"{a int}", "80", "/a: this is missing: " + "an integer from -9223372036854775808 to 9223372036854775807, found nothing", `{}`},
	} {
		payload, err := hex.DecodeString(c.payload)
		require.NoError(t, err)
		f := result(t, c.line)
		_, err = f.Decode(payload)
		if c.nearly == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, strings.TrimSuffix(c.want, ", found nothing"))
		nearly, err := f.DecodeWith(payload, jsonform.Output{Lossy: true})
		require.NoError(t, err)
		require.Equal(t, c.nearly, string(nearly))
	}
	late := codec.AppendTime(nil, farFuture)
	_, err := result(t, "time").Decode(late)
	require.EqualError(t, err, "the whole: expected a year from 0 to 9999, found 12026")
	nearly, err := result(t, "time").DecodeWith(late, jsonform.Output{Lossy: true})
	require.NoError(t, err)
	require.Equal(t, `"12026-01-01T00:00:00Z"`, string(nearly))
}

// TestPayloadsThatDoNotFit checks that their errors quote nothing of them.
func TestPayloadsThatDoNotFit(t *testing.T) {
	for _, c := range []struct{ line, payload, want string }{
		{"a int8", "81a161cc80", "/a: expected an integer from -128 to 127, found another integer"},
		{"a string", "81a16101", "/a: expected a payload of this form, found msgpack offset 3: an integer where a string was expected"},
		{"a string", "81a161", "/a: expected a payload of this form, found msgpack offset 3: ends where a string was expected"},
		{"a string", "82a161a178a161a179", "/a: this occurs twice"},
		{"m map[string]int", "81a16d82a16101a16102", "/m/a: this occurs twice"},
		{"a [2]int", "81a1619101", "/a: expected an array of 2 elements, found 1"},
	} {
		payload, err := hex.DecodeString(c.payload)
		require.NoError(t, err)
		_, err = params(t, c.line).Decode(payload)
		require.ErrorContains(t, err, c.want)
	}
	unknown, err := hex.DecodeString("82a161a178a16282a17801a17902")
	require.NoError(t, err)
	shown, err := params(t, "a string").Decode(unknown)
	require.NoError(t, err)
	require.Equal(t, `{"a":"x"}`, string(shown), "a field of a newer version is left out")
}

// TestLimits checks that what is too large is refused before it is stored.
func TestLimits(t *testing.T) {
	f := params(t, "l [[int8]], t *@Tree={c [@Tree]?}, o custom(a.B)?")
	for _, c := range []struct {
		json, want string
		in         jsonform.Input
	}{
		{`{"l":[` + strings.Repeat("[],", 2000) + `[]]}`, "/l/998: expected at most 1000 values, found more", jsonform.Input{Elements: 1000}},
		{`{"l":null}          `, "the whole: expected at most 10 bytes, found 20", jsonform.Input{Bytes: 10}},
		{`{"l":[],"t":` + strings.Repeat(`{"c":[`, 65) + strings.Repeat(`]}`, 65) + `}`, "at most 64 levels of a type that contains itself, found more", jsonform.Input{}},
		{`{"l":[],"o":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`, "at most 64 levels, found more", jsonform.Input{}},
		{`{"l":[],"x":` + strings.Repeat(`[`, 10_000_000), "at most 4000 levels, found more", jsonform.Input{Bytes: 1 << 30}},
		{`{"l":{"x":` + strings.Repeat(`[{"":`, 3000), "at most 4000 levels, found more", jsonform.Input{}},
		{"[" + strings.Repeat(`"",`, 100), "the whole: expected an object, found an array", jsonform.Input{}},
	} {
		_, err := f.EncodeWith([]byte(c.json), c.in)
		if c.want[0] == '[' || strings.HasPrefix(c.json, "[") {
			require.Error(t, err)
			continue
		}
		require.ErrorContains(t, err, c.want)
	}
	// Long keys make no long errors.
	_, err := params(t, "m map[string][int8]").Encode([]byte(`{"m":{"` + strings.Repeat("k", 1<<20) + `":[` + strings.Repeat(`"",`, 30) + `0]}}`))
	require.Less(t, len(err.Error()), 10_000)
	_, err = params(t, "m int").Encode([]byte(`{"` + strings.Repeat("k", 1<<20) + `":1}`))
	require.Less(t, len(err.Error()), 1000)
	many, err := jsonform.Params("l [int8]")
	require.NoError(t, err)
	_, err = many.Encode([]byte(`{"l":[` + strings.Repeat(`"",`, 100) + `0]}`))
	var all jsonform.Errors
	require.True(t, errors.As(err, &all))
	require.Len(t, all, 20)
}

// TestAllocationIsInProportion checks that hostile JSON takes no more than a multiple of it.
func TestAllocationIsInProportion(t *testing.T) {
	f := params(t, "l [[int8]], m map[string]map[int64]bool, w [{a int?, b int?, c int?}], o custom(a.B)")
	const size = 1 << 20
	fill := func(s string) string { return strings.TrimSuffix(strings.Repeat(s, size/len(s)), ",") }
	for _, text := range []string{
		`{"l":[` + fill("[],") + `],"m":null,"w":null,"o":null}`,
		`{"l":[` + fill("[1,2,3],") + `],"m":null,"w":null,"o":null}`,
		`{"l":[],"m":null,"o":null,"w":[` + fill(`{},`) + `]}`,
		`{"l":[],"m":null,"o":null,"w":[` + fill(`{"c":1,"a":2},`) + `]}`,
		`{"l":[],"m":null,"w":null,"o":[` + fill(`{},`) + `]}`,
		`{"l":[],"m":{"` + fill(`\n`) + `":{"1":true}},"w":null,"o":null}`,
	} {
		var payload, back []byte
		var err error
		used := allocated(func() { payload, err = f.Encode([]byte(text)) })
		require.NoError(t, err)
		require.Less(t, used, uint64(60*len(text)), text[:60])
		used = allocated(func() { back, err = f.Decode(payload) })
		require.NoError(t, err)
		require.True(t, json.Valid(back))
		require.Less(t, used, uint64(100*len(payload)+1000), text[:60])
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
