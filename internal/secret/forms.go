package secret

import (
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"math"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/text"
)

// longSecret is the length beyond which a value is looked for in few forms.
const longSecret = 64 << 10

// find collects the values of a payload's secret parameters: as they travel, also in a
// payload that does not fit the task, and as the task has them.
func find(p Params, payload []byte) *Values {
	s := newValues()
	s.travelling(p, payload)
	s.decoded(p, payload)
	s.sort()
	return s
}

// decoded adds the values as the task has them.
func (s *Values) decoded(p Params, payload []byte) {
	var values []reflect.Value
	ask(func() { values = p.Decode(payload) })
	for _, v := range values {
		if !s.all {
			ask(func() { s.whole(v) })
			s.value(v, codec.MaxDepth)
		}
	}
}

// ask calls methods of the application, which may panic.
func ask(methods func()) {
	defer func() { _ = recover() }()
	methods()
}

// whole adds how a value with parts is written in one piece.
func (s *Values) whole(v reflect.Value) {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Map, reflect.Array, reflect.Struct:
	default:
		return
	}
	if v.IsZero() || v.Kind() != reflect.Struct && v.Len() == 0 {
		return
	}
	x := v.Interface()
	for _, format := range []string{"%v", "%+v", "%#v"} {
		s.add(fmt.Sprintf(format, x))
	}
	for _, x := range []any{x, v.Addr().Interface()} {
		if b, err := json.Marshal(x); err == nil {
			s.add(string(b))
		}
	}
}

// value adds a value and its parts.
func (s *Values) value(v reflect.Value, depth int) {
	if depth == 0 || !v.IsValid() || s.all {
		return
	}
	if v.CanInterface() && v.Kind() != reflect.Pointer && v.Kind() != reflect.Interface {
		if done := s.own(v); done {
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		s.value(v.Elem(), depth-1)
	case reflect.Struct:
		for i := range v.NumField() {
			s.value(v.Field(i), depth-1)
		}
	case reflect.Map:
		for pairs := v.MapRange(); pairs.Next(); {
			s.value(pairs.Key(), depth-1)
			s.value(pairs.Value(), depth-1)
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			for i := range b {
				b[i] = byte(v.Index(i).Uint())
			}
			s.text(string(b))
			return
		}
		if v.Type().Elem().Kind() == reflect.Int32 {
			s.runes(v)
		}
		for i := range v.Len() {
			s.value(v.Index(i), depth-1)
		}
	case reflect.String:
		s.text(v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.number(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.unsigned(v.Uint())
	case reflect.Float32:
		s.float(v.Float(), 32)
	case reflect.Float64:
		s.float(v.Float(), 64)
	}
}

// own adds how a value writes itself, also with methods of a pointer to it, and
// reports whether that is all of it.
func (s *Values) own(v reflect.Value) bool {
	if at, ok := v.Interface().(time.Time); ok {
		s.time(at)
		return true
	}
	if !v.CanAddr() {
		addressable := reflect.New(v.Type()).Elem()
		addressable.Set(v)
		v = addressable
	}
	x := v.Addr().Interface()
	if x, ok := x.(encoding.TextMarshaler); ok {
		ask(func() {
			if b, err := x.MarshalText(); err == nil {
				s.text(string(b))
			}
		})
	}
	if x, ok := x.(fmt.Stringer); ok {
		ask(func() { s.text(x.String()) })
	}
	if x, ok := x.(error); ok {
		ask(func() { s.text(x.Error()) })
	}
	return false
}

// runes adds characters as the text that they make.
func (s *Values) runes(v reflect.Value) {
	var b strings.Builder
	for i := range v.Len() {
		c := rune(v.Index(i).Int())
		if !unicode.IsPrint(c) && !unicode.IsSpace(c) {
			return // they are numbers
		}
		b.WriteRune(c)
	}
	s.text(b.String())
}

// text adds a value in the forms in which programs write text and bytes.
func (s *Values) text(v string) {
	if len(v) < shortestSecret || !s.another() {
		return
	}
	s.written(v)
	if trimmed := strings.TrimSpace(v); trimmed != v {
		s.written(trimmed)
	}
	if strings.ContainsAny(v, "\r\n") {
		for line := range strings.Lines(v) {
			s.written(strings.TrimSpace(line)) // logs are cut into lines
		}
	}
}

func (s *Values) written(v string) {
	if len(v) < shortestSecret {
		return
	}
	s.add(v)
	quoted := strconv.Quote(v)
	s.add(quoted[1 : len(quoted)-1])
	if b, err := json.Marshal(v); err == nil {
		s.add(string(b[1 : len(b)-1]))
	}
	if b, err := text.JSON(v); err == nil { // without the escapes for HTML
		s.add(string(b[1 : len(b)-1]))
	}
	if len(v) > longSecret {
		return
	}
	ascii := strconv.QuoteToASCII(v)
	s.add(ascii[1 : len(ascii)-1])
	s.add(html.EscapeString(v))
	for _, escaped := range []string{
		url.QueryEscape(v), url.PathEscape(v), url.UserPassword("", v).String()[1:],
		(&url.URL{Path: "/" + v}).EscapedPath()[1:], (&url.URL{Fragment: v}).EscapedFragment(),
	} {
		s.add(escaped)
	}
	digits := hex.EncodeToString([]byte(v))
	s.add(digits)
	s.add(strings.ToUpper(digits))
	for _, format := range []string{"% x", "% X"} {
		s.add(fmt.Sprintf(format, v))
	}
	s.add(strings.Trim(fmt.Sprint([]byte(v)), "[]"))
	goSyntax := fmt.Sprintf("%#v", []byte(v))
	s.add(goSyntax[len("[]byte{") : len(goSyntax)-1])
	s.base64(v)
}

// base64 adds what a value is in base64 by itself, and what it is within a
// longer text wherever it begins: but for the first and last digits, which it
// shares with its neighbours.
func (s *Values) base64(v string) {
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		s.add(encoding.EncodeToString([]byte(v)))
		for before := range 3 {
			padded := encoding.EncodeToString(append(make([]byte, before), v...))
			from, to := (8*before+5)/6, 8*(before+len(v))/6
			s.add(padded[from:to])
		}
	}
}

func (s *Values) number(n int64) {
	if n >= 0 {
		s.unsigned(uint64(n))
	} else {
		s.add(strconv.FormatInt(n, 10))
		s.unsigned(-uint64(n))
		s.hex(uint64(n))
	}
	if n <= -1000 || n >= 1000 {
		s.add(time.Duration(n).String())
	}
}

func (s *Values) unsigned(n uint64) {
	if n < 1000 || !s.another() {
		return
	}
	s.add(strconv.FormatUint(n, 10))
	s.hex(n)
	s.decimal(float64(n), 64)
}

func (s *Values) hex(n uint64) {
	s.add(fmt.Sprintf("%#x", n))
	s.add(fmt.Sprintf("%#X", n))
	if digits := strconv.FormatUint(n, 16); len(digits) > shortestSecret {
		s.add(digits)
		s.add(strings.ToUpper(digits))
	}
}

func (s *Values) float(f float64, bits int) {
	if math.Abs(f) < 1e-300 || math.IsInf(f, 0) || math.IsNaN(f) || !s.another() {
		return
	}
	s.decimal(f, bits)
}

func (s *Values) decimal(f float64, bits int) {
	for _, format := range []byte("gfeE") {
		for _, precision := range []int{-1, 6} {
			s.add(strconv.FormatFloat(f, format, precision, bits))
		}
	}
	// As the built-in print and panic write it: +1.234500e+003.
	text := strconv.FormatFloat(f, 'e', 6, bits)
	mantissa, exponent, _ := strings.Cut(text, "e")
	if e, err := strconv.Atoi(exponent); err == nil {
		s.add(fmt.Sprintf("%se%+04d", mantissa, e))
	}
}

func (s *Values) time(at time.Time) {
	if at.IsZero() || !s.another() {
		return
	}
	for _, at := range []time.Time{at, at.UTC(), at.Local()} {
		for _, layout := range []string{
			time.RFC3339Nano, time.RFC3339, time.DateTime, time.DateOnly, "2006-01-02 15:04:05.999999999",
			time.RFC1123, time.RFC1123Z, time.RFC850, time.RFC822, time.ANSIC, time.UnixDate, time.StampNano,
		} {
			s.add(at.Format(layout))
		}
		s.add(at.String())
	}
	for _, n := range []int64{at.Unix(), at.UnixMilli(), at.UnixMicro(), at.UnixNano()} {
		s.number(n)
	}
}

// travelling adds the values of secret parameters as a payload has them, as far
// as it can be read.
func (s *Values) travelling(p Params, payload []byte) {
	r := codec.NewReader(payload)
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		key := string(r.Key())
		if p.IsSecret(key) {
			s.part(p, r, codec.MaxDepth)
		} else {
			r.Skip()
		}
	}
}

// part adds one value of a payload with its parts. The keys of structs, which
// the wire form of the parameters names, are none of them.
func (s *Values) part(p Params, r *codec.Reader, depth int) {
	if depth == 0 || s.all {
		r.Skip()
		return
	}
	switch r.Kind() {
	case codec.KindString, codec.KindBinary:
		s.text(string(r.View()))
	case codec.KindInteger:
		b := r.Raw()
		if in := codec.NewReader(b); len(b) == 9 {
			s.unsigned(in.Uint64())
			s.number(codec.NewReader(b).Int64())
		} else {
			s.number(in.Int64())
		}
	case codec.KindFloat:
		s.float(r.Float64(), 64)
	case codec.KindArray:
		for n := r.ArrayLen(); n > 0 && r.More(); n-- {
			s.part(p, r, depth-1)
		}
	case codec.KindMap:
		for n := r.MapLen(); n > 0 && r.More(); n-- {
			if r.Kind() == codec.KindString {
				if key := string(r.Key()); !strings.Contains(p.Form(), key) {
					s.text(key)
				}
			} else {
				s.part(p, r, depth-1)
			}
			s.part(p, r, depth-1)
		}
	case codec.KindExtension:
		if at := codec.NewReader(r.Raw()).Time(); !at.IsZero() {
			s.time(at)
		}
	default:
		r.Skip()
	}
}

// HideDecoding returns the error of decoding a payload without the secret values that it
// may quote.
func HideDecoding(p Params, payload []byte, err error) error {
	var typed *codec.Error
	if !errors.As(err, &typed) {
		return errors.New("a value does not fit") // the error may quote it
	}
	if !isPublic(p, payload, typed.Offset) {
		typed = typed.Plain()
	}
	found := newValues()
	found.travelling(p, payload)
	found.sort()
	return errors.New(found.Hide(typed.Error()))
}

// isPublic reports whether an offset is within a parameter that is not secret.
func isPublic(p Params, payload []byte, offset int) bool {
	r := codec.NewReader(payload)
	for n := r.MapLen(); n > 0 && r.More(); n-- {
		key := string(r.Key())
		from := r.Offset()
		if r.Skip(); r.More() && from <= offset && offset < r.Offset() {
			return !p.IsSecret(key)
		}
	}
	return false
}
