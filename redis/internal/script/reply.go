package script

import "fmt"

// arrayOf returns the values of a reply that has to be an array of n.
func arrayOf(script string, v any, n int) ([]any, error) {
	reply, ok := v.([]any)
	if !ok || len(reply) != n {
		return nil, fmt.Errorf("unexpected reply %T of %s.lua", v, script)
	}
	return reply, nil
}

// number returns an integer of a reply, 0 if it is none.
func number(v any) int64 {
	n, _ := v.(int64)
	return n
}

// text returns a text of a reply, "" if it is none.
func text(v any) string {
	s, _ := v.(string)
	return s
}

// texts returns an array of texts of a reply.
func texts(v any) []string {
	list, _ := v.([]any)
	if len(list) == 0 {
		return nil
	}
	all := make([]string, len(list))
	for i := range list {
		all[i] = text(list[i])
	}
	return all
}
