package script

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/redis/internal/wire"
)

// names are the names of a script's keys or arguments, in their order.
type names struct {
	letter string // K or A
	global string // KEYS or ARGV
	list   []string
	used   []bool
}

// place returns the place of the first key or argument of a name, from 1, and how many have
// this name. It notes that the name is used.
func (n *names) place(name string) (at, count int) {
	for i, other := range n.list {
		if other != name {
			continue
		}
		if count == 0 {
			at = i + 1
		}
		count++
		n.used[i] = true
	}
	return at, count
}

// substitute returns the code for the name at the start of a text, and the size of the name
// in the text. If several keys have the name, the index in brackets behind it chooses one.
func (n *names) substitute(text string) (code string, size int, err error) {
	size = len(n.letter) + 1
	for size < len(text) && isWord(text[size]) {
		size++
	}
	name := text[len(n.letter)+1 : size]
	at, count := n.place(name)
	switch {
	case count == 0:
		return "", 0, fmt.Errorf("%s.%s is none of its names: %s", n.letter, name, strings.Join(n.list, " "))
	case count == 1:
		return fmt.Sprintf("%s[%d]", n.global, at), size, nil
	}
	index, _, ok := strings.Cut(text[size:], "]")
	if !ok || index == "" || index[0] != '[' || strings.ContainsAny(index[1:], "[=<>~") {
		return "", 0, fmt.Errorf("%s.%s is %d: behind it has to be which one, in brackets", n.letter, name, count)
	}
	size += len(index) + 1
	index = index[1:]
	if which, err := strconv.Atoi(index); err == nil {
		if which < 1 || which > count {
			return "", 0, fmt.Errorf("%s.%s[%d]: there are %d", n.letter, name, which, count)
		}
		return fmt.Sprintf("%s[%d]", n.global, at+which-1), size, nil
	}
	if at == 1 {
		return fmt.Sprintf("%s[%s]", n.global, index), size, nil
	}
	return fmt.Sprintf("%s[%d + %s]", n.global, at-1, index), size, nil
}

func (n *names) unused() (list []string) {
	for i, name := range n.list {
		if !n.used[i] && !slices.Contains(list, n.letter+"."+name) {
			list = append(list, n.letter+"."+name)
		}
	}
	return list
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// resolve returns a script as it is sent: with places instead of names. It returns an error
// if the script has a name that is not in the lists, or does not use one of them.
func resolve(source string, keys, args []string) (string, error) {
	k := &names{letter: "K", global: "KEYS", list: keys, used: make([]bool, len(keys))}
	a := &names{letter: "A", global: "ARGV", list: args, used: make([]bool, len(args))}
	var out strings.Builder
	for i := 0; i < len(source); {
		rest := source[i:]
		word := i == 0 || !isWord(source[i-1]) && source[i-1] != '.'
		code, size := "", literal(rest)
		var err error
		switch {
		case size > 0:
			code = rest[:size]
		case word && strings.HasPrefix(rest, "K."):
			code, size, err = k.substitute(rest)
		case word && strings.HasPrefix(rest, "A."):
			code, size, err = a.substitute(rest)
		case word && strings.HasPrefix(rest, "OP."):
			code, size, err = constant(rest, "OP.", operations)
		case word && strings.HasPrefix(rest, "INDEX."):
			code, size, err = constant(rest, "INDEX.", indexes)
		case isCount(rest, "#K"):
			code, size = strconv.Itoa(len(keys)), 2
		case isCount(rest, "#A"):
			code, size = strconv.Itoa(len(args)), 2
		default:
			code, size = rest[:1], 1
		}
		if err != nil {
			return "", fmt.Errorf("line %d: %w", 1+strings.Count(source[:i], "\n"), err)
		}
		out.WriteString(code)
		i += size
	}
	if unused := append(k.unused(), a.unused()...); len(unused) > 0 {
		return "", fmt.Errorf("it does not use %s", strings.Join(unused, ", "))
	}
	return out.String(), nil
}

// isCount reports whether a text begins with #K or #A, the number of names, and not with the
// length of a key or argument that has a name.
func isCount(text, count string) bool {
	return strings.HasPrefix(text, count) && (len(text) == len(count) || !isWord(text[len(count)]) && text[len(count)] != '.')
}

// literal returns the length of the comment or string at the start of a text, 0 if there is
// none.
func literal(text string) int {
	switch {
	case strings.HasPrefix(text, "--"):
		if end := strings.IndexByte(text, '\n'); end >= 0 {
			return end
		}
		return len(text)
	case text[0] == '\'' || text[0] == '"':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case text[0]:
				return i + 1
			}
		}
		return len(text)
	}
	return 0
}

// constant returns the code for the constant of a group at the start of a text, and the size
// of its name there.
func constant(text, group string, codes map[string]string) (code string, size int, err error) {
	size = len(group)
	for size < len(text) && isWord(text[size]) {
		size++
	}
	code, ok := codes[text[len(group):size]]
	if !ok {
		return "", 0, fmt.Errorf("%s is no constant", text[:size])
	}
	return code, size, nil
}

// keyNames returns the names of keys in a script: the part behind the queue's name up to a
// colon, with some exceptions.
func keyNames(q *wire.QueueKeys, keys []string) []string {
	list := make([]string, len(keys))
	for i, key := range keys {
		kind, _, several := strings.Cut(strings.TrimPrefix(key, q.Base), ":")
		switch {
		case kind == "io" || kind == "cpu":
			kind = "ready"
		case kind == "schedules" && several:
			kind = "changes"
		case kind == "pending" && several:
			kind = "pendingRun"
		case keysOfMany[kind] != "":
			kind = keysOfMany[kind]
		}
		list[i] = kind
	}
	return list
}

// keysOfMany are the names of keys that a queue has many of, by how they begin.
var keysOfMany = map[string]string{
	"f": "batch", "d": "done", "u": "unique", "rec": "record", "cancel": "cancels",
}

// argNames returns the names of arguments in a script: those of the struct's fields, in lower
// case. It returns an error if Append does not append the fields in their order.
func argNames(a Arguments) ([]string, error) {
	v := reflect.ValueOf(a).Elem()
	var list []string
	without := a.Append(nil)
	if len(without) != v.NumField() {
		return nil, fmt.Errorf("%T has %d fields and appends %d arguments", a, v.NumField(), len(without))
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if err := setSome(v.Field(i)); err != nil {
			return nil, fmt.Errorf("%T.%s: %w", a, field.Name, err)
		}
		for j, arg := range a.Append(nil) {
			if (i == j) == reflect.DeepEqual(arg, without[j]) {
				return nil, fmt.Errorf("%T.%s is not argument %d", a, field.Name, i+1)
			}
		}
		v.Field(i).SetZero()
		list = append(list, small(field.Name))
	}
	return list, nil
}

// setSome gives a field a value that is not zero.
func setSome(field reflect.Value) error {
	switch field.Kind() {
	case reflect.String:
		field.SetString("some")
	case reflect.Bool:
		field.SetBool(true)
	case reflect.Int, reflect.Int64:
		field.SetInt(7)
	case reflect.Slice:
		field.SetBytes([]byte("some"))
	default:
		return errors.New("no argument of a script is of this type")
	}
	return nil
}

// small returns a name that begins with a lower-case letter, or with a whole abbreviation in
// lower case.
func small(name string) string {
	n := 0
	for n < len(name) && name[n] >= 'A' && name[n] <= 'Z' {
		n++
	}
	if n > 1 && n < len(name) {
		n--
	}
	return strings.ToLower(name[:n]) + name[n:]
}

// Arguments are the arguments of a script that have a name: the fields of a struct, in order.
type Arguments interface {
	Append(args []any) []any
}

// NoArgs is for a script without arguments that have a name.
type NoArgs struct{}

// Append appends nothing.
func (*NoArgs) Append(args []any) []any { return args }

// yes returns a condition as scripts take it.
func yes(is bool) any {
	if is {
		return "1"
	}
	return "0"
}
