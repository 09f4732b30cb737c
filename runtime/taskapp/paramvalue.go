package taskapp

import (
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// paramFlag fills one parameter of a task from a command-line flag. Only the
// command line uses reflection; queueing and running do not.
type paramFlag struct {
	param
	kind  string // how to write the value, for people
	value reflect.Value
	given bool

	values *valueReader
	err    error // of a secret's value: package pflag would show it with the value
}

// paramPrefix makes the flag of a parameter unambiguous.
const paramPrefix = "param."

// paramFlags returns a flag for each parameter of the task, and the generated struct that
// the flags fill. Its defaults are set. Reading a value from a file ends with ctx.
func (t *task) paramFlags(ctx context.Context) (flags []*paramFlag, params any) {
	params = t.NewParams()
	v := reflect.ValueOf(params).Elem()
	values := &valueReader{ctx: ctx}
	for _, p := range t.params() {
		flags = append(flags, &paramFlag{param: p, values: values, value: v.Field(p.Field), kind: kindOf(v.Field(p.Field).Type())})
	}
	return flags, params
}

// boolDefault is the flag's value if it stands alone, "" if it cannot.
func (f *paramFlag) boolDefault() string {
	if f.kind == "bool" {
		return "true"
	}
	return ""
}

func (f *paramFlag) String() string { return "" }

// Type returns the kind of the value for package pflag.
func (f *paramFlag) Type() string {
	if f.kind == "bool" {
		return "bool"
	}
	return "value"
}

func (f *paramFlag) Set(text string) error {
	f.given = true
	text, err := f.values.read(text)
	if err != nil && f.Secret {
		f.err = f.secretInputError(err)
		return nil
	}
	if err != nil {
		return err
	}
	target := reflect.New(f.value.Type()).Elem()
	elem := target
	if target.Kind() == reflect.Pointer {
		if f.kind == kindJSON && isNull(text) {
			f.value.SetZero()
			return nil
		}
		target.Set(reflect.New(target.Type().Elem()))
		elem = target.Elem()
	}
	if err := setValue(elem, text); f.Secret && err != nil {
		f.err = fmt.Errorf("the value of flag --%s is not a valid %s", f.flag, f.kind)
	} else if err != nil {
		return err
	}
	f.value.Set(target)
	return nil
}

// secretInputError returns the error of reading a secret value. It shows nothing of what
// was given, which may be the secret itself.
func (f *paramFlag) secretInputError(err error) error {
	switch {
	case f.values.ctx.Err() != nil:
		return fmt.Errorf("the value of flag --%s was interrupted while it was read", f.flag)
	case errors.Is(err, errInputTaken):
		return fmt.Errorf("the value of flag --%s: %w", f.flag, err)
	}
	return fmt.Errorf("the value of flag --%s begins with @, and what follows names no file that can be read; an @ that is meant is written twice", f.flag)
}

// valueReader reads values of flags from a file (@FILE) or standard input (@-). @@
// stands for one @.
type valueReader struct {
	ctx       context.Context
	usedInput bool
}

var errInputTaken = errors.New("standard input is the value of another flag")

// maxValue bounds a value that is read; no run may have one as large.
const maxValue = 64 << 20

func (r *valueReader) read(text string) (string, error) {
	name, elsewhere := strings.CutPrefix(text, "@")
	switch {
	case !elsewhere || r == nil:
		return text, nil
	case strings.HasPrefix(name, "@"):
		return name, nil
	}
	if name == "-" && r.usedInput {
		return "", errInputTaken
	}
	r.usedInput = r.usedInput || name == "-"
	type result struct {
		value string
		err   error
	}
	read := make(chan result, 1)
	go func() { // a terminal or a pipe may never end, and to open a pipe may take as long
		value, err := readValue(name)
		read <- result{value, err}
	}()
	select {
	case got := <-read:
		return got.value, got.err
	case <-r.ctx.Done():
		return "", errors.New("interrupted while it was read")
	}
}

// readValue reads the value that stands in a file, or of "-" in standard input.
func readValue(name string) (string, error) {
	in := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return "", fmt.Errorf("%w; an @ that is meant is written twice", err)
		}
		defer file.Close()
		in = file
	}
	b, err := io.ReadAll(io.LimitReader(in, maxValue+1))
	if err == nil && len(b) > maxValue {
		err = fmt.Errorf("it has more than %d bytes", maxValue)
	}
	value := strings.TrimSuffix(string(b), "\n")
	return strings.TrimSuffix(value, "\r"), err
}

// usage describes the flag's value and its default.
func (f *paramFlag) usage() string {
	switch {
	case !f.Optional:
		return f.kind
	case f.value.Kind() == reflect.Pointer && f.value.IsNil():
		return f.kind + ", optional"
	}
	return f.kind + " (default " + brief(f.written(), 60) + ")"
}

// written is the parameter's value as its flag takes it, text in quotes.
func (f *paramFlag) written() string {
	v := f.value
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !f.Secret {
		switch v := v.Interface().(type) {
		case time.Duration:
			return v.String()
		case time.Time:
			return v.Format(time.RFC3339Nano)
		case []byte:
			return strconv.Quote(string(v))
		}
	}
	return string(f.Show(v))
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
	bytesType    = reflect.TypeFor[[]byte]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
	jsonType     = reflect.TypeFor[json.Unmarshaler]()
)

// kindJSON is the kind of structured parameters.
const kindJSON = "JSON"

// kindOf describes how a value of the type is written on the command line.
func kindOf(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == durationType:
		return "duration, such as 1m30s"
	case t == timeType:
		return "time, such as 2006-01-02T15:04:05Z"
	case t == bytesType:
		return "text"
	case reflect.PointerTo(t).Implements(textType):
		return t.String()
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "bool"
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "integer from 0"
	}
	return kindJSON
}

// setValue parses text into v. It returns a panic of an application's own type as an
// error.
func setValue(v reflect.Value, text string) (err error) {
	defer recovered(&err)
	switch t := v.Type(); {
	case t == durationType:
		d, err := parseDuration(text)
		v.SetInt(int64(d))
		return err
	case t == timeType:
		at, err := parseTime(text)
		v.Set(reflect.ValueOf(at))
		return err
	case t == bytesType:
		v.SetBytes([]byte(text))
		return nil
	case reflect.PointerTo(t).Implements(textType):
		return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return errors.New("neither true nor false")
		}
		v.SetBool(b)
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
		return numberError(err, "a number", v.Type())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, base(text), v.Type().Bits())
		v.SetInt(n)
		return numberError(err, "a whole number", v.Type())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, base(text), v.Type().Bits())
		v.SetUint(n)
		return numberError(err, "a whole number from 0", v.Type())
	default:
		if err := setMaps(v, text); err != nil {
			return fmt.Errorf("as JSON: %w", err)
		}
	}
	return nil
}

func setJSON(v reflect.Value, text string) error {
	if isNull(text) && !nullable(v.Type()) {
		return fmt.Errorf("null is no value of type %s", v.Type())
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v.Addr().Interface()); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the value")
	}
	return nil
}

func isNull(text string) bool { return strings.TrimSpace(text) == "null" }

// nullable reports whether null is a value of the type. Package json ignores null for
// any other type, which would leave the zero value.
func nullable(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Interface, reflect.Pointer:
		return true
	}
	return reflect.PointerTo(t).Implements(jsonType) // its own method decides
}

// base returns the base of a number as Go writes it, except that zeros before a decimal
// number do not make it octal.
func base(text string) int {
	digits := strings.TrimLeft(text, "+-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 10
	}
	return 0
}

// numberError explains why text is not a number of the type.
func numberError(err error, what string, t reflect.Type) error {
	switch {
	case errors.Is(err, strconv.ErrRange):
		return fmt.Errorf("beyond the range of %s", t.Kind())
	case err != nil:
		return errors.New("not " + what)
	}
	return nil
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("not a duration such as 1m30s")
	}
	return d, nil
}

// parseTime reads an instant, or a day, which stands for its start in UTC.
func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = time.Parse(time.DateOnly, text)
	}
	if err != nil {
		return time.Time{}, errors.New("not a time such as 2006-01-02T15:04:05Z, or a day such as 2006-01-02")
	}
	return t, nil
}

// missingParams returns the flags that must be given and were not.
func missingParams(flags []*paramFlag) []string {
	var missing []string
	for _, f := range flags {
		if !f.given && !f.Optional {
			missing = append(missing, fmt.Sprintf("--%s (%s)", f.flag, f.kind))
		}
	}
	return missing
}

// hasJSONKeys reports whether the type is a map, or has one among its elements, whose keys
// package json does not read: bools and arrays. Structs are left to package json.
func hasJSONKeys(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Map:
		return isJSONKey(t.Key()) || hasJSONKeys(t.Elem())
	case reflect.Slice, reflect.Array, reflect.Pointer:
		return !reflect.PointerTo(t).Implements(jsonType) && t.Name() == "" && hasJSONKeys(t.Elem())
	}
	return false
}

func isJSONKey(t reflect.Type) bool {
	return (t.Kind() == reflect.Bool || t.Kind() == reflect.Array) && !reflect.PointerTo(t).Implements(textType)
}

// setMaps reads JSON into a type of hasJSONKeys. A key is the text of its JSON, such as
// "true" or "[1,2]".
func setMaps(v reflect.Value, text string) error {
	t := v.Type()
	switch {
	case !hasJSONKeys(t):
		return setJSON(v, text)
	case isNull(text):
		v.SetZero()
		return nil
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		return setMaps(v.Elem(), text)
	case t.Kind() == reflect.Map:
		return setMap(v, text)
	}
	var elems []json.RawMessage
	if err := setJSON(reflect.ValueOf(&elems).Elem(), text); err != nil {
		return err
	}
	if t.Kind() == reflect.Array && len(elems) != t.Len() {
		return fmt.Errorf("%d elements where %d are expected", len(elems), t.Len())
	}
	if t.Kind() == reflect.Slice {
		v.Set(reflect.MakeSlice(t, len(elems), len(elems)))
	}
	for i, elem := range elems {
		if err := setMaps(v.Index(i), string(elem)); err != nil {
			return err
		}
	}
	return nil
}

func setMap(v reflect.Value, text string) error {
	t := v.Type()
	var members map[string]json.RawMessage
	if err := setJSON(reflect.ValueOf(&members).Elem(), text); err != nil {
		return err
	}
	made := reflect.MakeMapWithSize(t, len(members))
	for _, name := range slices.Sorted(maps.Keys(members)) {
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		if err := setKey(key, name); err != nil {
			return fmt.Errorf("the key %q: %w", name, err)
		}
		if made.MapIndex(key).IsValid() {
			return fmt.Errorf("the key %q stands twice", name)
		}
		if err := setMaps(value, string(members[name])); err != nil {
			return fmt.Errorf("of the key %q: %w", name, err)
		}
		made.SetMapIndex(key, value)
	}
	v.Set(made)
	return nil
}

// setKey reads a key. If package json reads keys of the type, it does so here.
func setKey(key reflect.Value, name string) error {
	if isJSONKey(key.Type()) {
		if isNull(name) {
			return errors.New("it is null")
		}
		return setJSON(key, name)
	}
	quoted, err := json.Marshal(map[string]bool{name: true})
	if err != nil {
		return err
	}
	single := reflect.New(reflect.MapOf(key.Type(), reflect.TypeFor[bool]())).Elem()
	if err := setJSON(single, string(quoted)); err != nil {
		return err
	}
	for _, k := range single.MapKeys() {
		key.Set(k)
	}
	return nil
}
