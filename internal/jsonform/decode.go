package jsonform

import (
	"encoding/base64"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/schema"
)

// Output is how JSON is written. The zero value is the default.
type Output struct {
	// Secrets are the names of parameters whose values are written as [Mask].
	Secrets []string
	// Lossy writes the values that JSON cannot hold nearly, instead of an error: bytes that
	// are not UTF-8 as U+FFFD, years beyond 0 to 9999 with more digits. It also allows that
	// required fields are missing.
	Lossy bool
}

// Decode returns the JSON of a payload by the default [Output].
func (f *Form) Decode(payload []byte) (json []byte, err error) {
	return f.DecodeWith(payload, Output{})
}

// DecodeWith returns the JSON of a payload, on one line. It allocates in proportion to the
// payload. Fields that the form does not have are left out, as the task ignores them. The
// error is of type [*Error], and quotes no value.
func (f *Form) DecodeWith(payload []byte, o Output) (json []byte, err error) {
	d := &decoder{Output: o, r: codec.NewReader(payload), params: f.params}
	d.r.Limit(math.MaxInt) // what is read is not kept
	d.value(f.root)
	if d.err == nil {
		d.r.Fail(d.r.Done())
	}
	if d.failed() {
		return nil, d.err
	}
	return d.out, nil
}

// decoder writes one JSON text.
type decoder struct {
	Output
	r      *codec.Reader
	params bool
	out    []byte
	path   []step
	err    *Error
}

// failed reports whether there is an error, and notes the reader's.
func (d *decoder) failed() bool {
	if err := d.r.Err(); err != nil && d.err == nil {
		message := err.Error()
		if typed, ok := err.(*codec.Error); ok {
			message = typed.Plain().Error()
		}
		d.fail(Payload, "a payload of this form", message)
	}
	return d.err != nil
}

func (d *decoder) fail(p Problem, expected, found string) {
	if d.err == nil {
		d.err = &Error{pointer(d.path), p, expected, found, d.r.Offset()}
	}
}

// inexact refuses a value that has no form, unless it may be written nearly.
func (d *decoder) inexact(expected, found string) {
	if !d.Lossy {
		d.fail(NoForm, expected, found)
	}
}

func (d *decoder) text(s string) { d.out = append(append(append(d.out, '"'), s...), '"') }

func (d *decoder) value(n *node) {
	if d.failed() {
		return
	}
	if n.recursive {
		d.r.Enter()
		defer d.r.Leave()
	}
	if n.nullable() && d.r.Nil() {
		d.out = append(d.out, "null"...)
		return
	}
	switch n.Kind {
	case schema.Scalar:
		d.scalar(n.Name)
	case schema.Bytes, schema.FixedBytes:
		data := d.r.View()
		if n.Kind == schema.FixedBytes && int64(len(data)) != n.Len && d.r.More() {
			d.fail(Payload, n.want(), fmt.Sprintf("%d bytes", len(data)))
		}
		d.base64(data)
	case schema.Slice, schema.Array:
		d.list(n)
	case schema.Map:
		d.mapOf(n)
	case schema.Pointer:
		d.value(n.elem)
	case schema.Struct:
		d.structOf(n)
	case schema.Own:
		d.own(n)
	}
}

func (d *decoder) scalar(name string) {
	switch name {
	case "bool":
		d.out = strconv.AppendBool(d.out, d.r.Bool())
	case "string":
		d.string(d.r.Text())
	case "time":
		d.time(d.r.Time())
	case "duration":
		d.text(d.r.Duration().String())
	case "float32":
		d.float(float64(d.r.Float32()), 32)
	case "float64":
		d.float(d.r.Float64(), 64)
	default:
		v := d.integer(name)
		if v.safe() {
			d.out = appendIntegerText(d.out, v)
			return
		}
		d.out = append(appendIntegerText(append(d.out, '"'), v), '"')
	}
}

// integer reads an integer of the type.
func (d *decoder) integer(name string) integer {
	low, high, _ := schema.IntegerRange(name)
	if d.r.Kind() != codec.KindInteger {
		d.r.Int64() // sets the error
		return integer{}
	}
	v := readInteger(d.r.Raw())
	if v.negative && int64(v.bits) < low || !v.negative && v.bits > high {
		d.fail(Payload, wantInteger(low, high), "another integer")
	}
	return v
}

func (d *decoder) float(v float64, size int) {
	switch {
	case math.IsNaN(v):
		d.text("NaN")
	case math.IsInf(v, 1):
		d.text("Infinity")
	case math.IsInf(v, -1):
		d.text("-Infinity")
	default:
		d.out = appendFloatText(d.out, v, size)
	}
}

func (d *decoder) string(text []byte) {
	if !utf8.Valid(text) {
		d.inexact("UTF-8", "other bytes")
	}
	d.out = appendString(d.out, text)
}

func (d *decoder) time(t time.Time) {
	if y := t.Year(); y < 0 || y > lastYear {
		d.inexact("a year from 0 to 9999", strconv.Itoa(y))
	}
	d.text(t.UTC().Format(time.RFC3339Nano))
}

func (d *decoder) base64(data []byte) {
	d.out = append(base64.StdEncoding.AppendEncode(append(d.out, '"'), data), '"')
}

// within writes an element at a step of the path.
func (d *decoder) within(s step, write func()) {
	d.path = append(d.path, s)
	write()
	d.failed()
	d.path = d.path[:len(d.path)-1]
}

func (d *decoder) list(n *node) {
	count := d.r.ArrayLen()
	if n.Kind == schema.Array && int64(count) != n.Len && d.r.More() {
		d.fail(Payload, n.want(), fmt.Sprint(count))
	}
	d.out = append(d.out, '[')
	for i := 0; i < count && !d.failed(); i++ {
		d.comma('[')
		d.within(step{index: i}, func() { d.value(n.elem) })
	}
	d.out = append(d.out, ']')
}

// comma separates elements.
func (d *decoder) comma(open byte) {
	if d.out[len(d.out)-1] != open {
		d.out = append(d.out, ',')
	}
}

func (d *decoder) mapOf(n *node) {
	seen := map[string]bool{}
	d.out = append(d.out, '{')
	for count := d.r.MapLen(); count > 0 && !d.failed(); count-- {
		d.comma('{')
		key := d.key(n.key)
		d.within(step{key: key, index: -1}, func() {
			if seen[key] {
				d.fail(Duplicate, "", "")
			}
			seen[key] = true
			d.out = append(d.out, ':')
			d.value(n.elem)
		})
	}
	d.out = append(d.out, '}')
}

// key writes the key of a map, and returns it.
func (d *decoder) key(n *node) string {
	switch _, _, isInteger := schema.IntegerRange(n.Name); {
	case n.Kind == schema.Scalar && n.Name == "string":
		text := d.r.Text()
		d.string(text)
		return string(text)
	case n.Kind == schema.Scalar && isInteger:
		key := string(appendIntegerText(nil, d.integer(n.Name)))
		d.text(key)
		return key
	case n.Kind == schema.Own && n.isText() && d.r.Nil():
		d.inexact("a key", "nil")
		d.text("")
		return ""
	case n.Kind == schema.Own && n.Method == "text":
		text := d.r.View()
		d.string(text)
		return string(text)
	}
	start := len(d.out)
	d.value(n)
	key := string(d.out[start:])
	if n.isText() {
		return strings.Trim(key, `"`) // a time or base64
	}
	d.out = appendString(d.out[:start], []byte(key))
	return key
}

func (d *decoder) structOf(n *node) {
	present := make([]uint64, (len(n.fields)+63)/64)
	d.out = append(d.out, '{')
	for count := d.r.MapLen(); count > 0 && !d.failed(); count-- {
		i, known := n.index[string(d.r.Key())]
		if !known {
			d.r.Skip()
			continue
		}
		d.comma('{')
		d.out = append(appendString(d.out, []byte(n.Fields[i].Key)), ':')
		d.within(step{key: n.Fields[i].Key, index: -1}, func() {
			if present[i/64]&(1<<(i%64)) != 0 {
				d.fail(Duplicate, "", "")
			}
			present[i/64] |= 1 << (i % 64)
			if d.secret() {
				d.r.Skip()
				d.text(Mask)
				return
			}
			d.value(n.fields[i])
		})
	}
	d.out = append(d.out, '}')
	for i, f := range n.Fields {
		if present[i/64]&(1<<(i%64)) == 0 && !f.Dispensable() && !d.Lossy && !d.failed() {
			d.within(step{key: f.Key, index: -1}, func() { d.fail(Missing, n.fields[i].want(), "nothing") })
		}
	}
}

// secret reports whether the present place is that of a secret parameter.
func (d *decoder) secret() bool {
	return d.params && len(d.path) == 1 &&
		slices.ContainsFunc(d.Secrets, func(s string) bool { return strings.EqualFold(s, d.path[0].key) })
}

func (d *decoder) own(n *node) {
	switch n.Method {
	case "text":
		d.string(d.r.View())
	case "binary":
		d.base64(d.r.View())
	default:
		if raw := d.r.Raw(); d.r.More() {
			d.out = appendAny(d.out, raw)
		}
	}
}

// appendString appends a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString(b, text []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for at := 0; at < len(text); {
		c := text[at]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(text[at:])
			b = utf8.AppendRune(b, r)
			at += size
			continue
		default:
			b = append(b, c)
		}
		at++
	}
	return append(b, '"')
}
