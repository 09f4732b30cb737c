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
	view = make(paramsView, 0, v.NumField())
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() {
			continue
		}
		value := json.RawMessage(`"` + hidden + `"`)
		if !t.isSecret(field.Name) {
			value = showValue(v.Field(i).Interface())
		}
		view = append(view, paramView{paramName(field.Name), value})
	}
	return view, nil
}

// isSecret reports whether the parameter of a field is not to be shown.
func (t *Task) isSecret(field string) bool {
	return slices.ContainsFunc(t.spec.Secrets, func(name string) bool { return strings.EqualFold(name, field) })
}

// paramName is what the parameter of a field is called.
func paramName(field string) string {
	first, size := utf8.DecodeRuneInString(field)
	return string(unicode.ToLower(first)) + field[size:]
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
