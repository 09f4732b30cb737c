// Package ordered writes JSON objects whose members keep their order.
package ordered

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Object is a JSON object.
type Object []Member

// Member is the name of a member of an object, a string, and its value.
type Member [2]any

// Add appends a member.
func (o *Object) Add(name string, value any) { *o = append(*o, Member{name, value}) }

// Get returns the value of the first member with a name, or nil.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m[0] == name {
			return m[1]
		}
	}
	return nil
}

// MarshalJSON writes the members in order.
func (o Object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		if _, ok := m[0].(string); !ok {
			return nil, fmt.Errorf("the name of a member is %v, no string", m[0])
		}
		name, err := json.Marshal(m[0])
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m[1])
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}
