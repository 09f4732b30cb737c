// Package schema describes in one line what travels for a task: its parameters
// and its result. Generated code keeps these lines, Spec.Params and
// Spec.Result, so that what an older version of a program queues can be told
// from its source alone.
//
// Parameters are a list of fields:
//
//	dataID string, since time=, tags [string], by *{name string, age uint8?}
//
// A result is one type. Names of Go types are left out: what counts is what is
// on the wire. The grammar, with any number of spaces between words:
//
//		params  = [ field { "," field } ]
//		field   = key { "|" key } type [ "?" ] [ "=" ]
//		type    = scalar | "bytes" [ "(" number ")" ] | "[" type "]" | "[" number "]" type
//		        | "map" "[" type "]" type | "*" type | "{" [ field { "," field } ] "}"
//		        | own "(" name ")" | "@" name [ "=" type ]
//		scalar  = "bool" | "string" | "int" | "int8" | … | "uint64" | "float32" | "float64" | "time" | "duration"
//		own     = "custom" | "marshaler" | "binary" | "text"
//		key     = a Go identifier, or any string quoted as in Go
//		name    = letters, digits and "_./-", or any string quoted as in Go
//
//	  - key|old is also read under its old key (//task:rename).
//	  - "?": left out when it is empty, and read without it.
//	  - "=": read without it, as its //task:default.
//	  - A pointer is nil or its type; as a field it may be missing when read.
//	  - bytes is binary, bytes(16) an array of that many; [3]T is an array, [T] a slice.
//	  - A type with a marshaller of its own is named after its methods:
//	    EncodeMsgpack (custom), MarshalMsgpack (marshaler), MarshalBinary
//	    (binary), MarshalText (text).
//	  - @Node={…} gives a type a name that @Node refers to: types that stand more
//	    than once are written once, and so types may contain themselves.
package schema
