package runtime

import (
	"encoding"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// paramFlag fills one parameter of a task from a command-line flag. Only the
// command line uses reflection; queueing and running do not.
type paramFlag struct {
	name  string // kebab-case
	kind  string // how to write the value, for people
	value reflect.Value
	given bool

	secret bool
	err    error // of a secret's value: package flag would show it with the value
}

// paramFlags adds a flag for each field of params, a pointer to the generated
// parameter struct of a task.
func (t *Task) paramFlags(set *flag.FlagSet, params any) []*paramFlag {
	v := reflect.ValueOf(params).Elem()
	flags := make([]*paramFlag, 0, v.NumField())
	for i := range v.NumField() {
		field := v.Type().Field(i).Name
		f := &paramFlag{name: kebab(field), value: v.Field(i), kind: kindOf(v.Field(i).Type())}
		f.secret = t.isSecret(field)
		set.Var(f, f.name, f.kind)
		flags = append(flags, f)
	}
	return flags
}

func (f *paramFlag) optional() bool   { return f.value.Kind() == reflect.Pointer }
func (f *paramFlag) IsBoolFlag() bool { return f.kind == "bool" }

// String is called by package flag also on a zero paramFlag.
func (f *paramFlag) String() string { return "" }

func (f *paramFlag) Set(text string) error {
	target := f.value
	if target.Kind() == reflect.Pointer {
		target = reflect.New(f.value.Type().Elem()).Elem()
	}
	if err := setValue(target, text); f.secret && err != nil {
		f.err = fmt.Errorf("the value of flag --%s is not a valid %s", f.name, f.kind)
	} else if err != nil {
		return err
	}
	if f.optional() {
		f.value.Set(target.Addr())
	}
	f.given = true
	return nil
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	timeType     = reflect.TypeFor[time.Time]()
	bytesType    = reflect.TypeFor[[]byte]()
	textType     = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// kindOf says how a parameter's value is written on the command line.
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
	return "JSON"
}

func setValue(v reflect.Value, text string) error {
	switch t := v.Type(); {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return errors.New("not a duration such as 1m30s")
		}
		v.SetInt(int64(d))
		return nil
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
		v.SetBool(b)
		return err
	case reflect.Float32, reflect.Float64:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(f)
		return numberError(err)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(text, 0, v.Type().Bits())
		v.SetInt(n)
		return numberError(err)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(text, 0, v.Type().Bits())
		v.SetUint(n)
		return numberError(err)
	default:
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(v.Addr().Interface()); err != nil {
			return fmt.Errorf("as JSON: %w", err)
		}
		if d.More() {
			return errors.New("as JSON: there is more after the value")
		}
	}
	return nil
}

// numberError leaves strconv's function name out of what people read.
func numberError(err error) error {
	if e, ok := err.(*strconv.NumError); ok {
		return e.Err
	}
	return err
}

// missingParams returns the flags that must be given and were not.
func missingParams(flags []*paramFlag) []string {
	var missing []string
	for _, f := range flags {
		if !f.given && !f.optional() {
			missing = append(missing, fmt.Sprintf("--%s (%s)", f.name, f.kind))
		}
	}
	return missing
}

// kebab writes a Go name with hyphens: DataID is data-id, URLPath url-path.
func kebab(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
