package jsonform

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/schema"
)

func (e *encoder) scalar(n *node) {
	c := e.peek()
	number := c == '-' || c >= '0' && c <= '9'
	low, high, isInteger := schema.IntegerRange(n.Name)
	switch {
	case n.Name == "bool" && c == 't' && e.word("true"):
		e.out = codec.AppendBool(e.out, true)
	case n.Name == "bool" && c == 'f' && e.word("false"):
		e.out = codec.AppendBool(e.out, false)
	case isInteger && number:
		e.integer(n, low, high)
	case isInteger && c == '"' && Wide(n.Name):
		e.integerText(n, low, high)
	case floats(n.Name) && number:
		e.float(n)
	case floats(n.Name) && c == '"':
		e.floatText(n)
	case n.Name == "time" && c == '"':
		e.time(n)
	case n.Name == "string" && c == '"':
		if text, ok := e.str(); ok {
			e.out = codec.AppendString(e.out, string(text))
		}
	default:
		e.mismatch(n)
	}
}

// Wide reports whether a scalar is an integer of 64 bits, which may also be a string in JSON.
func Wide(name string) bool {
	switch name {
	case "int", "int64", "uint", "uint64", "duration":
		return true
	}
	return false
}

func floats(name string) bool { return name == "float32" || name == "float64" }

func (e *encoder) integer(n *node, low int64, high uint64) {
	at := e.pos
	number, ok := e.number()
	if !ok {
		return
	}
	digits, fits := integral(number)
	v, inRange := parseInteger(digits, low, high)
	switch {
	case fits && digits == "":
		e.refuse(at, Format, n, shorten(number))
	case !fits || !inRange:
		e.refuse(at, Range, n, shorten(number))
	}
	e.out = appendInteger(e.out, v)
}

// integerText reads an integer in a string, or a duration.
func (e *encoder) integerText(n *node, low int64, high uint64) {
	at := e.pos
	text, ok := e.str()
	if !ok {
		return
	}
	s := string(text)
	if n.Name == "duration" && !decimal(s) {
		d, err := time.ParseDuration(s)
		if err != nil {
			e.refuse(at, Format, n, e.quote(s))
		}
		e.out = codec.AppendDuration(e.out, d)
		return
	}
	v, inRange := parseInteger(s, low, high)
	switch {
	case !decimal(s):
		e.refuse(at, Format, n, e.quote(s))
	case !inRange:
		e.refuse(at, Range, n, e.quote(s))
	}
	e.out = appendInteger(e.out, v)
}

// quote returns a string as an error shows it.
func (e *encoder) quote(s string) string { return strconv.Quote(shorten(s)) }

func wantInteger(low int64, high uint64) string {
	return fmt.Sprintf("an integer from %d to %d", low, high)
}

func appendInteger(b []byte, v integer) []byte {
	if v.negative {
		return codec.AppendInt(b, int64(v.bits))
	}
	return codec.AppendUint(b, v.bits)
}

func (e *encoder) float(n *node) {
	at := e.pos
	number, ok := e.number()
	if !ok {
		return
	}
	v, err := strconv.ParseFloat(number, sizeOf(n.Name))
	if err != nil {
		e.refuseAs(at, Range, "a number that "+n.Name+" can hold", shorten(number))
	}
	e.appendFloat(n.Name, v)
}

func (e *encoder) floatText(n *node) {
	at := e.pos
	text, ok := e.str()
	if !ok {
		return
	}
	switch string(text) {
	case "NaN":
		e.appendFloat(n.Name, math.NaN())
	case "Infinity":
		e.appendFloat(n.Name, math.Inf(1))
	case "-Infinity":
		e.appendFloat(n.Name, math.Inf(-1))
	default:
		e.refuseAs(at, Type, n.want(), "a string")
	}
}

func (e *encoder) appendFloat(name string, v float64) {
	if name == "float32" {
		e.out = codec.AppendFloat32(e.out, float32(v))
		return
	}
	e.out = codec.AppendFloat64(e.out, v)
}

func sizeOf(name string) int {
	if name == "float32" {
		return 32
	}
	return 64
}

func (e *encoder) time(n *node) {
	at := e.pos
	text, ok := e.str()
	if !ok {
		return
	}
	t, err := parseTime(string(text))
	if err != nil {
		e.refuse(at, Format, n, e.quote(string(text)))
	}
	e.out = codec.AppendTime(e.out, t)
}

// instant matches RFC 3339 with at most nine digits that count of a second. Package time
// takes more: hours of one digit, commas, any zone, and digits that it drops.
var instant = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9}0*)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

func parseTime(text string) (time.Time, error) {
	if !instant.MatchString(text) {
		return time.Time{}, errNoTime
	}
	t, err := time.Parse(time.RFC3339, text)
	if y := t.UTC().Year(); err == nil && (y < 0 || y > lastYear) {
		err = errNoTime // in its zone it has a year of four digits, and is written in UTC
	}
	return t, err
}

// lastYear is the last with four digits.
const lastYear = 9999

var errNoTime = errors.New("no time of RFC 3339")

// strict is base64 with padding, without bits that mean nothing.
var strict = base64.StdEncoding.Strict()

func (e *encoder) bytes(n *node) {
	data, at, ok := e.base64(n)
	if !ok {
		return
	}
	if n.Kind == schema.FixedBytes && int64(len(data)) != n.Len {
		e.refuse(at, Range, n, fmt.Sprintf("%d bytes", len(data)))
	}
	e.out = codec.AppendBytes(e.out, data)
}

// base64 reads the bytes of a string.
func (e *encoder) base64(n *node) (data []byte, at int, ok bool) {
	if e.peek() != '"' {
		e.mismatch(n)
		return nil, e.pos, false
	}
	at = e.pos
	text, ok := e.str()
	if !ok {
		return nil, at, false
	}
	data = make([]byte, strict.DecodedLen(len(text)))
	size, err := strict.Decode(data, text)
	if err != nil || strings.ContainsAny(string(text), "\r\n") {
		e.refuse(at, Format, n, e.quote(string(text)))
		return nil, at, false
	}
	return data[:size], at, true
}
