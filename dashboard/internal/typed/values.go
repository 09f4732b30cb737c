package typed

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/taskgen/taskgen/internal/jsonform"
	"github.com/taskgen/taskgen/internal/schema"
)

// Encode returns the payload of what a person filled in, which the task itself has read.
// errs are by the places of their fields; one of the whole is by the place "". With old, which
// is the payload of another run, an empty secret stands for that of it. text is the JSON that
// was filled in, with secrets, even if there are errors.
func (f *Form) Encode(values url.Values, old []byte) (payload, text []byte, errs map[string]string) {
	w := &writer{Form: f, values: values, old: old != nil, errs: make(map[string]string)}
	w.object(f.form.Fields(), "", 0)
	text = w.out.Bytes()
	secrets := f.task.Spec().Secrets
	payload, err := f.form.EncodeWith(text, jsonform.Input{Secrets: secrets, Old: old})
	var all jsonform.Errors
	switch {
	case errors.As(err, &all):
		for _, e := range all {
			if w.errs[e.Pointer] == "" {
				w.errs[e.Pointer] = e.Message()
			}
		}
	case err != nil:
		w.errs[""] = err.Error()
	}
	if len(w.errs) > 0 {
		return nil, text, w.errs
	}
	if _, err := f.task.DecodeParams(payload); err != nil {
		what := err.Error()
		if len(secrets) > 0 {
			what = "they do not fit the task" // the error may quote them
		}
		return nil, text, map[string]string{"": what}
	}
	return payload, text, nil
}

// writer writes what was filled in as JSON.
type writer struct {
	*Form
	values url.Values
	old    bool
	out    bytes.Buffer
	errs   map[string]string
}

func (w *writer) object(fields []schema.Field, at string, depth int) {
	w.out.WriteByte('{')
	first := true
	for _, field := range fields {
		place := at + "/" + escape(field.Key)
		if !w.isThere(field, place, depth) {
			continue
		}
		if !first {
			w.out.WriteByte(',')
		}
		first = false
		w.out.Write(quoted(field.Key))
		w.out.WriteByte(':')
		w.value(field, place, depth)
	}
	w.out.WriteByte('}')
}

// isThere reports whether a field is written.
func (w *writer) isThere(field schema.Field, at string, depth int) bool {
	secret := depth == 0 && w.isSecret(field.Key)
	s := w.shapeOf(field, depth, secret)
	switch {
	case secret && w.old, w.values.Has(setPrefix + at):
		return true
	case s.widget == Struct && s.optional:
		return w.anyBelow(at)
	case w.values.Get(valuePrefix+at) != "":
		return true
	}
	switch s.widget {
	case Number, Bool, Time, Duration: // empty is no value of theirs
		return false
	}
	return !s.optional
}

// anyBelow reports whether something was filled in below a place.
func (w *writer) anyBelow(at string) bool {
	for name, values := range w.values {
		if strings.HasPrefix(name, valuePrefix+at+"/") && values[0] != "" || strings.HasPrefix(name, setPrefix+at+"/") {
			return true
		}
	}
	return false
}

var number = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// value writes the value of a field.
func (w *writer) value(field schema.Field, at string, depth int) {
	secret := depth == 0 && w.isSecret(field.Key)
	s := w.shapeOf(field, depth, secret)
	text := strings.ReplaceAll(w.values.Get(valuePrefix+at), "\r\n", "\n") // as forms end lines
	trimmed := strings.TrimSpace(text)
	switch {
	case secret && w.old && text == "":
		w.out.Write(quoted(jsonform.Mask))
	case s.widget == Struct:
		w.object(s.of.Fields, at, depth+1)
	case s.widget == JSON || w.values.Has(jsonPrefix+at) && s.widget == Text && !secret:
		w.json(s.of, at, trimmed)
	case s.widget == Text:
		w.out.Write(quoted(text))
	case s.widget == Number && number.MatchString(trimmed), s.widget == Bool && (trimmed == "true" || trimmed == "false"):
		w.out.WriteString(trimmed)
	case s.widget == Bytes:
		w.out.Write(quoted(strings.Join(strings.Fields(text), "")))
	case s.widget == Time:
		w.out.Write(quoted(Instant(trimmed)))
	case s.widget == Duration && trimmed != "0" && strings.Trim(trimmed, "+-0123456789") == "":
		w.fail(at, "a number needs a unit, such as 30s")
	default:
		w.out.Write(quoted(trimmed))
	}
}

// json writes a value that was filled in as JSON. An empty one is an empty list or object.
func (w *writer) json(t *schema.Type, at, text string) {
	switch {
	case text == "" && (t.Kind == schema.Slice || t.Kind == schema.Array):
		text = "[]"
	case text == "" && (t.Kind == schema.Map || t.Kind == schema.Struct):
		text = "{}"
	}
	var any json.RawMessage
	if err := json.Unmarshal([]byte(text), &any); err != nil {
		w.fail(at, "this is no JSON: "+strings.TrimPrefix(err.Error(), "json: ")+"; write it such as "+example(t, 0))
		return
	}
	w.out.WriteString(text)
}

// fail notes an error, and writes a value in the stead of the one that has it.
func (w *writer) fail(at, text string) {
	w.errs[at] = text
	w.out.WriteString("null")
}

// Instant writes a time of people in the form of RFC 3339. Another text stays as it is.
func Instant(text string) string {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Format(time.RFC3339Nano)
		}
	}
	if day, clock, found := strings.Cut(text, " "); found && !strings.Contains(clock, " ") {
		return day + "T" + clock
	}
	return text
}

// quoted is a text as JSON.
func quoted(s string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // a string always has a form
		return []byte(`""`)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// Values returns the fields of the form filled in with the parameters of a payload, without
// its secrets. exact is false if a value has no form in JSON, and what is filled in is near.
func (f *Form) Values(payload []byte) (values url.Values, exact bool, err error) {
	o := jsonform.Output{Secrets: f.task.Spec().Secrets}
	text, err := f.form.DecodeWith(payload, o)
	exact = err == nil
	if err != nil {
		o.Lossy = true
		if text, err = f.form.DecodeWith(payload, o); err != nil {
			return nil, false, err
		}
	}
	values = url.Values{}
	f.fill(values, f.form.Fields(), text, "", 0)
	return values, exact, nil
}

// fill fills in the fields of an object.
func (f *Form) fill(values url.Values, fields []schema.Field, object []byte, at string, depth int) {
	var parts map[string]json.RawMessage
	if json.Unmarshal(object, &parts) != nil {
		return
	}
	for _, field := range fields {
		raw, found := parts[field.Key]
		secret := depth == 0 && f.isSecret(field.Key)
		if !found || secret {
			continue
		}
		f.fillOne(values, f.shapeOf(field, depth, secret), raw, at+"/"+escape(field.Key), depth)
	}
}

func (f *Form) fillOne(values url.Values, s shape, raw json.RawMessage, at string, depth int) {
	isNull := string(raw) == "null"
	switch {
	case s.widget == Struct && isNull, s.widget != JSON && isNull && s.optional:
	case s.widget == Struct:
		if s.optional {
			values.Set(setPrefix+at, "1")
		}
		f.fill(values, s.of.Fields, raw, at, depth+1)
	case s.widget == JSON:
		values.Set(valuePrefix+at, string(raw))
	default:
		text := string(raw)
		if json.Unmarshal(raw, &text) != nil {
			text = string(raw)
		}
		if s.widget == Text && strings.ContainsFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && unicode.IsControl(r) }) {
			values.Set(jsonPrefix+at, "1")
			text = string(raw)
		}
		if text == "" && s.optional {
			values.Set(setPrefix+at, "1")
		}
		values.Set(valuePrefix+at, text)
	}
}

// defaults returns what parameters are if they are left out, as people read it.
func (f *Form) defaults() map[string]string {
	all := make(map[string]string)
	v := reflect.ValueOf(f.task.NewParams()).Elem()
	for _, p := range f.task.Params() {
		if !p.Optional || p.Secret {
			continue
		}
		switch value := v.Field(p.Field).Interface().(type) {
		case time.Duration:
			all[p.Name] = strings.Replace(strings.Replace(value.String(), "m0s", "m", 1), "h0m", "h", 1)
		case time.Time:
			all[p.Name] = value.UTC().Format(time.RFC3339Nano)
		default:
			if text := string(p.Show(v.Field(p.Field))); text != "null" {
				all[p.Name] = text
			}
		}
	}
	return all
}

// exampleKey is the key of a map as JSON: a string, or the text of another value's JSON.
func exampleKey(t *schema.Type, depth int) string {
	switch {
	case t.Kind == schema.Scalar && t.Name == "string":
		return `"key"`
	case t.Kind == schema.Scalar && t.Name == "duration":
		return `"1"`
	}
	key := example(t, depth+1)
	if key[0] != '"' {
		return string(quoted(key))
	}
	return key
}

// example is a value of a type as JSON.
func example(t *schema.Type, depth int) string {
	switch t.Kind {
	case schema.Slice, schema.Array:
		if depth > 2 {
			return "[]"
		}
		return "[" + example(t.Elem, depth+1) + "]"
	case schema.Map:
		return "{" + exampleKey(t.Key, depth) + ": " + example(t.Elem, depth+1) + "}"
	case schema.Pointer:
		return example(t.Elem, depth+1)
	case schema.Struct:
		return exampleObject(t.Fields, depth)
	case schema.Own:
		return `"…"`
	case schema.Bytes, schema.FixedBytes:
		return `"aGVsbG8="`
	}
	switch t.Name {
	case "bool":
		return "true"
	case "string":
		return `"text"`
	case "time":
		return `"2006-01-02T15:04:05Z"`
	case "duration":
		return `"1m30s"`
	}
	return "1"
}

func exampleObject(fields []schema.Field, depth int) string {
	if depth > 2 {
		return "{}"
	}
	var parts []string
	for _, field := range fields {
		if !field.Dispensable() && len(parts) < 8 {
			parts = append(parts, string(quoted(field.Key))+": "+example(field.Type, depth+1))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
