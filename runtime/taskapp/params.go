package taskapp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/taskgen/taskgen/internal/naming"
	"github.com/taskgen/taskgen/internal/text"
	taskrt "github.com/taskgen/taskgen/runtime"
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
		name, err := text.JSON(param.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), param.value...)
	}
	return append(b, '}'), nil
}

// param is a parameter of a task as the command line knows it.
type param struct {
	taskrt.Param
	flag string // kebab-case
}

// params returns the parameters of the task, in their order. Each has the flag of its
// kebab-case name; those that would have the same one, such as dataID and dataId, have
// the flag of their own name.
func (t *task) params() []param {
	var params []param
	uses := make(map[string]int)
	for _, p := range t.Params() {
		params = append(params, param{p, naming.Kebab(p.Name)})
		uses[naming.Kebab(p.Name)]++
	}
	for i, p := range params {
		if uses[p.flag] > 1 {
			params[i].flag = p.Name
		}
	}
	return params
}

// hidden stands for a secret.
const hidden = "***"

// showParams decodes a payload for people, its secrets hidden.
func (t *task) showParams(payload []byte) (view paramsView, err error) {
	defer recovered(&err)
	params, err := t.DecodeParams(payload)
	switch {
	case err != nil && len(t.Spec().Secrets) > 0:
		return nil, errors.New("they do not fit the task") // the error may quote them
	case err != nil:
		return nil, err
	}
	v := reflect.ValueOf(params).Elem()
	if v.Kind() != reflect.Struct {
		return nil, errors.New("they are no struct")
	}
	view = paramsView{}
	for _, p := range t.params() {
		view = append(view, paramView{p.Name, p.show(v.Field(p.Field))})
	}
	return view, nil
}

// show returns the parameter's value as people may see it.
func (p *param) show(v reflect.Value) json.RawMessage {
	if p.Secret {
		return json.RawMessage(`"` + hidden + `"`)
	}
	return showValue(v.Interface())
}

// showResult decodes a result for people. That of a task without one is empty.
func (t *task) showResult(b []byte) (_ json.RawMessage, err error) {
	defer recovered(&err)
	result, err := t.DecodeResult(b)
	if err != nil || !t.HasResult() {
		return nil, err
	}
	return showValue(result), nil
}

// showValue returns v as JSON, or as text where JSON has no form for it.
func showValue(v any) json.RawMessage {
	b, err := text.JSON(v)
	if err != nil {
		b, _ = text.JSON(fmt.Sprintf("%+v", v)) // a string always has one
	}
	return bytes.TrimSpace(b)
}

// recovered makes an error of a panic in the application's marshalling.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("the program's own marshalling panicked: %.200s", fmt.Sprint(r))
	}
}
