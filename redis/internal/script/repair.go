package script

// RepairedKey is a key of which repair.lua found something.
type RepairedKey struct {
	Key  int    // its place in the call, from 0
	Type string // as TYPE names it; "" if the key has more fields than one step looks at
	// NewName is the key's new name, "" if only fields were broken. Without a type it is
	// the cursor of the fields that follow.
	NewName string
}

// ParseRepair parses the reply of repair.lua to a call with so many keys.
func ParseRepair(v any, keys int) (found []RepairedKey) {
	list, _ := v.([]any)
	for _, item := range list {
		one, err := arrayOf("repair", item, 3)
		if err != nil {
			continue
		}
		if n := number(one[0]); n >= 1 && int(n) <= keys {
			found = append(found, RepairedKey{int(n) - 1, text(one[1]), text(one[2])})
		}
	}
	return found
}
