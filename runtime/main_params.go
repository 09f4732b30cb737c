package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// paramsView is a run's parameters as people see them, in their order.
type paramsView []paramView

type paramView struct {
	name  string
	value json.RawMessage
}

// MarshalJSON makes an object of them.
func (p paramsView) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, param := range p {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := marshal(param.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), param.value...)
	}
	return append(b, '}'), nil
}

// param is a parameter of a task as the command line knows it.
type param struct {
	name     string   // in the function, and on the wire
	old      []string // under which it is also read
	flag     string   // kebab-case
	field    int      // of the struct that holds the parameters
	secret   bool
	optional bool // a message may lack it
}

// params are the parameters of the task, in their order.
func (t *Task) params() []param {
	typ := reflect.TypeOf(t.newParams()).Elem()
	if typ.Kind() != reflect.Struct {
		return nil
	}
	wire := wireParams(t.spec.Params)
	params := make([]param, 0, typ.NumField())
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.IsExported() {
			continue
		}
		p := param{name: paramName(field.Name), field: i, optional: field.Type.Kind() == reflect.Pointer}
		if len(wire) == typ.NumField() {
			p.name, p.optional = wire[i].name, p.optional || wire[i].optional
		}
		p.secret = slices.ContainsFunc(t.spec.Secrets, func(name string) bool { return strings.EqualFold(name, p.name) })
		params = append(params, p)
	}
	nameFlags(params)
	return params
}

// nameFlags gives each parameter the flag of its kebab-case name, and those that
// would have the same one, such as dataID and dataId, the flag of their own name.
func nameFlags(params []param) {
	uses := make(map[string]int)
	for _, p := range params {
		uses[kebab(p.name)]++
	}
	for i, p := range params {
		params[i].flag = kebab(p.name)
		if uses[params[i].flag] > 1 {
			params[i].flag = p.name
		}
	}
}

// wireParams reads from the wire form of parameters ([Spec].Params) what they
// are called and which of them have a default.
func wireParams(form string) (params []param) {
	var (
		start, depth int
		quoted       bool
	)
	for i := 0; i <= len(form); i++ {
		if i < len(form) {
			switch c := form[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case quoted:
			case strings.IndexByte("{[(", c) >= 0:
				depth++
			case strings.IndexByte("}])", c) >= 0:
				depth--
			}
			if quoted || depth > 0 || form[i] != ',' {
				continue
			}
		}
		field := strings.TrimSpace(form[start:min(i, len(form))])
		start = i + 1
		if field == "" {
			continue
		}
		names, _, _ := strings.Cut(field, " ")
		keys := strings.Split(names, "|") // behind the first are old ones
		params = append(params, param{name: keys[0], old: keys[1:], optional: strings.HasSuffix(field, "=")})
	}
	return params
}

// hidden stands for a secret.
const hidden = "***"

// showParams decodes a payload for people, its secrets hidden.
func (t *Task) showParams(payload []byte) (view paramsView, err error) {
	defer recovered(&err)
	params, err := t.decode(payload)
	v := reflect.ValueOf(params).Elem()
	switch {
	case err != nil && len(t.spec.Secrets) > 0:
		return nil, errors.New("they do not fit the task") // the error may quote them
	case err != nil:
		return nil, err
	case v.Kind() != reflect.Struct:
		return nil, errors.New("they are no struct")
	}
	view = paramsView{}
	for _, p := range t.params() {
		view = append(view, paramView{p.name, p.show(v.Field(p.field))})
	}
	return view, nil
}

// encodeParams makes a payload of the struct that the flags have filled.
func (t *Task) encodeParams(params any) (payload []byte, err error) {
	defer recovered(&err)
	return t.encode(params)
}

// show returns the parameter's value as people may see it.
func (p *param) show(v reflect.Value) json.RawMessage {
	if p.secret {
		return json.RawMessage(`"` + hidden + `"`)
	}
	return showValue(v.Interface())
}

// paramName is what the parameter of a field is called, as far as the field
// tells: DataID is dataID, URLPath is urlPath.
func paramName(field string) string {
	first, _, _ := strings.Cut(kebab(field), "-")
	return first + string([]rune(field)[utf8.RuneCountInString(first):])
}

// kebab writes a Go name with hyphens: dataIDs is data-ids, URLPath url-path.
func kebab(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		runes := []rune(part)
		for i, r := range runes {
			if b.Len() > 0 && (i == 0 || unicode.IsUpper(r) && beginsWord(runes, i)) {
				b.WriteByte('-')
			}
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// beginsWord tells of the capital r[i] whether it opens a word: behind a small
// letter or digit always, behind another capital when a small letter follows
// that is not the plural s of an initialism.
func beginsWord(r []rune, i int) bool {
	small := func(j int) bool { return j < len(r) && unicode.IsLower(r[j]) }
	if !unicode.IsUpper(r[i-1]) {
		return true
	}
	plural := i+1 < len(r) && r[i+1] == 's' && !small(i+2)
	return small(i+1) && !plural
}

// showResult decodes a result for people. That of a task without one is empty.
func (t *Task) showResult(b []byte) (_ json.RawMessage, err error) {
	defer recovered(&err)
	result, err := t.decodeResult(b)
	if err != nil || !t.hasResult {
		return nil, err
	}
	return showValue(result), nil
}

// showValue returns v as JSON, or as text where JSON has no form for it.
func showValue(v any) json.RawMessage {
	b, err := marshal(v)
	if err != nil {
		b, _ = marshal(fmt.Sprintf("%+v", v)) // a string always has one
	}
	return bytes.TrimSpace(b)
}

// recovered makes an error of a panic in the application's marshalling.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}
