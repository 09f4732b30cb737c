package runtime

import (
	"fmt"
	"strings"

	"github.com/taskgen/taskgen/codec"
)

// wireParam is a parameter as the wire form of a task's parameters describes it: see
// [Spec].Params. Its grammar is in the package doc of internal/schema.
type wireParam struct {
	name     string
	old      []string // names under which it is also read
	form     string   // of its values
	optional bool     // it has a default
}

// wireParams parses the wire form of a task's parameters.
func wireParams(form string) (params []wireParam) {
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
			params = append(params, parseWireParam(field))
		}
	}
	return params
}

func parseWireParam(field string) wireParam {
	names, form, _ := strings.Cut(field, " ")
	keys := strings.Split(names, "|") // behind the first are old ones
	return wireParam{
		name: keys[0], old: keys[1:], form: strings.TrimRight(form, "=?"), optional: strings.HasSuffix(field, "="),
	}
}

// withParam returns a payload in which one parameter has another value, already encoded.
func withParam(payload []byte, param string, value []byte) ([]byte, error) {
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
