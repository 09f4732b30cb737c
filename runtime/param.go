package runtime

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/taskgen/taskgen/codec"
	"github.com/taskgen/taskgen/internal/naming"
)

// Param is a parameter of a task.
type Param struct {
	Name     string   // in the function, and on the wire
	Old      []string // names under which it is also read, see //task:rename
	Field    int      // its index in the struct that [Task.NewParams] points to
	Secret   bool     // it is shown as ***
	Optional bool     // a run may lack it
}

// Params returns the parameters of the task in their order.
func (t Task) Params() []Param {
	typ := t.params
	if typ.Kind() != reflect.Struct {
		return nil
	}
	wire := wireParams(t.spec.Params)
	params := make([]Param, 0, typ.NumField())
	for i := range typ.NumField() {
		field := typ.Field(i)
		if !field.IsExported() {
			continue
		}
		p := Param{Name: naming.Unexported(field.Name), Field: i, Optional: field.Type.Kind() == reflect.Pointer}
		if len(wire) == typ.NumField() {
			p.Name, p.Old, p.Optional = wire[i].Name, wire[i].Old, p.Optional || wire[i].Optional
		}
		p.Secret = slices.ContainsFunc(t.spec.Secrets, func(name string) bool { return strings.EqualFold(name, p.Name) })
		params = append(params, p)
	}
	return params
}

// NewParams returns a pointer to a new struct of the task's parameters, such as
// *HeavyCalculationParams, with the values of //task:default set.
func (t Task) NewParams() any {
	params, _ := t.decode(codec.AppendMapLen(nil, 0)) // the error is of those without a default
	return params
}

// EncodeParams returns the payload of a run with the parameters, a pointer as
// [Task.NewParams] returns. If a value cannot be encoded it returns an error, which
// quotes none of a task with secret parameters.
func (t Task) EncodeParams(params any) (payload []byte, err error) {
	defer recovered(&err)
	if payload, err = t.encode(params); err != nil {
		return nil, t.spec.encodeError(err)
	}
	return payload, nil
}

// DecodeParams returns the parameters of a payload as [Task.NewParams] does. If the
// payload does not fit the task it returns an error, and beside it the parameters that
// could be read.
func (t Task) DecodeParams(payload []byte) (params any, err error) {
	defer recovered(&err)
	return t.decode(payload)
}

// HasResult reports whether the task returns more than an error.
func (t Task) HasResult() bool { return t.hasResult }

// DecodeResult returns a result as the task returned it. It is None if the task has no
// result.
func (t Task) DecodeResult(b []byte) (result any, err error) {
	defer recovered(&err)
	return t.decodeResult(b)
}

// recovered makes an error of a panic in the application's marshalling.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}

// wireParams reads from the wire form of parameters ([Spec].Params) what they
// are called and which of them have a default.
func wireParams(form string) (params []Param) {
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
		params = append(params, Param{Name: keys[0], Old: keys[1:], Optional: strings.HasSuffix(field, "=")})
	}
	return params
}
