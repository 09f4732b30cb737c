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

// integerOf returns a reply that has to be an integer between two bounds.
func integerOf(script string, v any, least, most int64) (int64, error) {
	n, ok := v.(int64)
	if !ok {
		return 0, fmt.Errorf("unexpected reply %T of %s.lua", v, script)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("unexpected reply %d of %s.lua", n, script)
	}
	return n, nil
}

// conditionOf returns a reply that has to be 1 for yes, or 0.
func conditionOf(script string, v any) (bool, error) {
	n, err := integerOf(script, v, 0, 1)
	return n == 1, err
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
