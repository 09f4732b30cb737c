package typed

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/taskgen/taskgen/internal/jsonform"
	"github.com/taskgen/taskgen/internal/naming"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// Options are how a run is queued, as a person wrote them.
type Options struct {
	Queue, Priority, Delay, At, ID string
	Headers                        []string // key=value
}

// Lines are one call as a shell takes it.
type Lines struct {
	Command string // of the program itself
	Curl    string // behind the address of the dashboard
}

// Here stands in Lines.Curl for the address of the dashboard, which the server does not know.
const Here = "https://dashboard.example"

// Lines returns the call that the payload and the options make, or, if the payload is nil,
// one with examples in place of the parameters. Secrets are *** in both.
func (f *Form) Lines(app string, payload []byte, o Options) Lines {
	command := []string{word(app), "queue", word(f.task.Name())}
	own := f.ownFlags()
	for _, flag := range []struct{ name, value string }{{"queue", o.Queue}, {"priority", o.Priority}, {"delay", o.Delay}, {"at", o.At}, {"id", o.ID}} {
		if flag.value != "" {
			command = append(command, "--"+own(flag.name)+"="+word(flag.value))
		}
	}
	for _, header := range o.Headers {
		command = append(command, "--"+own("header")+"="+word(header))
	}
	command = append(command, f.flags(payload)...)
	return Lines{Command: strings.Join(command, " "), Curl: f.curl(payload, o)}
}

// flagOf returns the flag of a parameter, as the command line has it: of its kebab-case name
// unless another has the same.
func (f *Form) flagOf(p taskrt.Param) string {
	flag := naming.Kebab(p.Name)
	for _, other := range f.task.Params() {
		if other.Name != p.Name && naming.Kebab(other.Name) == flag {
			return p.Name
		}
	}
	return flag
}

// ownFlags returns the name of a flag of the command's own, which a parameter can have too.
func (f *Form) ownFlags() func(name string) string {
	var taken []string
	for _, p := range f.task.Params() {
		taken = append(taken, f.flagOf(p))
	}
	return func(name string) string {
		if slices.Contains(taken, name) {
			return "queue." + name
		}
		return name
	}
}

// flags returns the flags of the parameters.
func (f *Form) flags(payload []byte) (flags []string) {
	var params reflect.Value
	if payload != nil {
		decoded, err := f.task.DecodeParams(payload)
		if err != nil {
			return nil
		}
		params = reflect.ValueOf(decoded).Elem()
	}
	defaults := reflect.ValueOf(f.task.NewParams()).Elem()
	for _, p := range f.task.Params() {
		flag := "--" + f.flagOf(p) + "="
		switch {
		case p.Secret:
			flags = append(flags, flag+"@FILE") // a file has it, not the list of processes
		case !params.IsValid() && p.Optional:
		case !params.IsValid():
			flags = append(flags, flag+strings.ToUpper(naming.Kebab(p.Name)))
		default:
			v := params.Field(p.Field)
			if p.Optional && reflect.DeepEqual(v.Interface(), defaults.Field(p.Field).Interface()) {
				continue
			}
			flags = append(flags, flag+word(flagValue(p, v)))
		}
	}
	return flags
}

// flagValue is a value as the flag of its parameter takes it. The rules are those of the
// command line.
func flagValue(p taskrt.Param, v reflect.Value) (text string) {
	if v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	shown := string(p.Show(v))
	defer func() {
		if recover() != nil { // the program's own marshalling
			text = shown
		}
	}()
	switch value := v.Interface().(type) {
	case time.Duration:
		return value.String()
	case time.Time:
		return value.UTC().Format(time.RFC3339Nano)
	case []byte:
		return escapeAt(string(value))
	}
	if value, ok := v.Addr().Interface().(encoding.TextMarshaler); ok && !isNil(v) {
		if b, err := value.MarshalText(); err == nil {
			return escapeAt(string(b))
		}
	}
	if v.Kind() == reflect.String {
		return escapeAt(v.String())
	}
	return shown
}

func isNil(v reflect.Value) bool { return v.Kind() == reflect.Pointer && v.IsNil() }

// escapeAt keeps a text from being taken for the name of a file.
func escapeAt(s string) string {
	if strings.HasPrefix(s, "@") {
		return "@" + s
	}
	return s
}

func (f *Form) curl(payload []byte, o Options) string {
	query := url.Values{}
	for name, value := range map[string]string{"queue": o.Queue, "priority": o.Priority, "delay": o.Delay, "at": instantOrNone(o.At)} {
		if value != "" {
			query.Set(name, value)
		}
	}
	for _, header := range o.Headers {
		query.Add("header", header)
	}
	address := "/api/v1/tasks/" + url.PathEscape(f.task.Name()) + "/runs"
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	line := "curl -X POST " + word(Here+address) + " -H 'Content-Type: application/json'"
	if o.ID != "" {
		line += " -H " + word("Idempotency-Key: "+o.ID)
	}
	return line + " -d " + word(f.body(payload))
}

func instantOrNone(text string) string {
	if text == "" {
		return ""
	}
	return Instant(text)
}

// body is the JSON of a payload, or an example of it.
func (f *Form) body(payload []byte) string {
	if payload == nil {
		return f.exampleBody()
	}
	text, err := f.form.DecodeWith(payload, jsonform.Output{Secrets: f.task.Spec().Secrets, Lossy: true})
	if err != nil {
		return f.exampleBody()
	}
	return visible(text)
}

// exampleBody is an example of the parameters that have to be given.
func (f *Form) exampleBody() string {
	var parts []string
	for _, field := range f.form.Fields() {
		switch {
		case field.Dispensable():
		case f.isSecret(field.Key):
			parts = append(parts, string(quoted(field.Key))+`: "`+jsonform.Mask+`"`)
		default:
			parts = append(parts, string(quoted(field.Key))+": "+example(field.Type, 1))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// visible escapes what is not printable in a JSON text, which has it in its strings alone.
func visible(text []byte) string {
	var b bytes.Buffer
	for _, r := range string(text) {
		if unicode.IsPrint(r) || r == '\n' {
			b.WriteRune(r)
			continue
		}
		escaped, err := json.Marshal(string(r)) // as two halves where it takes them
		if err != nil || len(escaped) > 2 && escaped[1] != '\\' {
			escaped = []byte(`"` + asEscapes(r) + `"`)
		}
		b.Write(escaped[1 : len(escaped)-1])
	}
	return b.String()
}

func asEscapes(r rune) string {
	if r < 0x10000 {
		return fmt.Sprintf(`\u%04x`, r)
	}
	r -= 0x10000
	return fmt.Sprintf(`\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
}

// word is a text as one word of a POSIX shell. What is not printable is written by printf, so
// that people see what they copy.
func word(s string) string {
	switch {
	case s == "":
		return "''"
	case strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,") == "":
		return s
	case !strings.ContainsFunc(s, hidden) && utf8.ValidString(s):
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
	body := strings.TrimRight(s, "\n") // which the shell would drop
	var b strings.Builder
	b.WriteString(`"$(printf '`)
	for _, c := range []byte(body) {
		if c > ' ' && c < 0x7f && !strings.ContainsRune(`'\%`, rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\%03s`, strconv.FormatUint(uint64(c), 8))
		}
	}
	b.WriteString(`')"`)
	if rest := s[len(body):]; rest != "" {
		b.WriteString("'" + rest + "'")
	}
	return b.String()
}

func hidden(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }
