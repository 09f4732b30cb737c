// Package schema describes the wire form of a task's parameters and result in one
// line. Generated code keeps these lines as Spec.Params and Spec.Result, so that the
// source of an older version shows what it queues.
//
// Parameters are a list of fields:
//
//	dataID string, since time=, tags [string], by *{name string, age uint8?}
//
// A result is one type. The names of Go types are omitted, because they are not on
// the wire. The grammar, with any number of spaces between words:
//
//		params  = [ field { "," field } ]
//		field   = key { "|" key } type [ "?" ] [ "=" ]
//		type    = scalar | "bytes" [ "(" number ")" ] | "[" type "]" | "[" number "]" type
//		        | "map" "[" type "]" type | "*" type | "{" [ field { "," field } ] "}"
//		        | own "(" name { "," form } ")" | "@" name [ "=" type ]
//		scalar  = "bool" | "string" | "int" | "int8" | … | "uint64" | "float32" | "float64" | "time" | "duration"
//		own     = "custom" | "marshaler" | "binary" | "text"
//		key     = a Go identifier, or any string quoted as in Go
//		form    = a type, quoted as in Go
//		name    = letters, digits and "_./-", or any string quoted as in Go
//
//	  - key|old is also read under its old key (//task:rename).
//	  - "?": omitted if empty, and optional when read.
//	  - "=": optional when read, because it has a //task:default.
//	  - A pointer is nil or its type; as a field it is optional when read.
//	  - bytes is binary, bytes(16) an array of 16 bytes; [3]T is an array, [T] a slice.
//	  - A type with its own marshaller is named after its methods: EncodeMsgpack (custom),
//	    MarshalMsgpack (marshaler), MarshalBinary (binary), MarshalText (text). The forms of its
//	    type arguments follow, since it may write values of these types.
//	  - @Node={…} names a type, and @Node refers to it. Types that occur several times are
//	    written once, so types may contain themselves.
package schema
