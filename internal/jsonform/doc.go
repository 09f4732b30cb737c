// Package jsonform writes the parameters and results of tasks as JSON, and reads them, by
// their wire form: a line of package schema. It needs no Go types, and is exact: a value
// that it writes is read as the same bytes.
//
// The forms of values:
//
//   - bool, string, struct, slice and array are JSON's own; a struct is an object of its
//     fields. A nil slice, map or pointer, and nil bytes, are null.
//   - int8 to int32 and uint8 to uint32 are numbers. 1.0 and 1e3 are integers too.
//   - int, int64, uint and uint64 are numbers up to ±(2^53-1), which every JSON reader holds
//     exactly, and strings of decimal digits beyond. Both are read as either.
//   - float32 and float64 are numbers, or the strings "NaN", "Infinity" and "-Infinity".
//   - time is RFC 3339 with up to nine digits of a second, written in UTC.
//   - duration is written as Go's text, such as "1m30s". A number, or a string of digits, is
//     read as nanoseconds.
//   - bytes, also of a fixed length, are standard base64 with padding.
//   - A map is an object. Keys that are integers are decimal, without leading zeros. Keys
//     whose JSON is a string (text, times, bytes) are that string, others the text of their
//     JSON: "true", "[1,2]".
//   - A type that marshals itself as text is a string, one that does as binary is base64.
//   - A type that marshals itself as MessagePack is the JSON of what it writes. A number with
//     a point or an exponent is a 64-bit float, any other an integer. What JSON has no such
//     form for is {"$msgpack": "…"}, its bytes in base64: binary, extensions, 32-bit floats,
//     integers beyond 2^53 and maps with keys that are no strings.
//
// A string that is not UTF-8, and a time before the year 0 or after 9999, have no form in
// JSON; see [Output].Lossy.
//
// What is read is refused with the place of each error as a JSON Pointer (RFC 6901): wrong
// types, values out of range, unknown, missing and repeated fields, and repeated keys of a
// map. Equal values become equal bytes: fields are written in the order of the line, keys of
// a map sorted, as generated code does.
//
// The task's own types decide what is a value of theirs: whoever queues what [Form.Encode]
// returns first decodes it by Task.DecodeParams.
package jsonform
