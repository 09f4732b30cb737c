// Package wireform reads the wire form of a task's parameters, and sets a parameter of a payload,
// where the parameters' type is not at hand.
package wireform

import (
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/codec"
)

// Param is a parameter as the wire form of a task's parameters describes it: Params of the
// runtime's Spec. Its grammar is in the package doc of internal/schema.
type Param struct {
	Name     string
	Old      []string // names under which it is also read
	Form     string   // of its values
	Optional bool     // it has a default
}

// Params parses the wire form of a task's parameters.
func Params(form string) (params []Param) {
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
		if field != "" {
			params = append(params, parse(field))
		}
	}
	return params
}

func parse(field string) Param {
	names, form, _ := strings.Cut(field, " ")
	keys := strings.Split(names, "|") // behind the first are old ones
	return Param{
		Name: keys[0], Old: keys[1:], Form: strings.TrimRight(form, "=?"), Optional: strings.HasSuffix(field, "="),
	}
}

// With returns a payload in which one parameter has another value, already encoded.
func With(payload []byte, param string, value []byte) ([]byte, error) {
	r := codec.NewReader(payload)
	n := r.MapLen()
	out := codec.AppendMapLen(make([]byte, 0, len(payload)+len(value)), n)
	found := false
	for ; n > 0 && r.More(); n-- {
		key := r.Key()
		out = codec.AppendString(out, string(key))
		old := r.Raw()
		if string(key) == param {
			old, found = value, true
		}
		out = append(out, old...)
	}
	if err := r.Done(); err != nil {
		return nil, fmt.Errorf("set parameter %s: %w", param, err)
	}
	if !found {
		return nil, fmt.Errorf("set parameter %s: there is none", param)
	}
	return out, nil
}
