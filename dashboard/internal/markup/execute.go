package markup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/template/parse"
)

// Functions is a value with functions that a template calls as if they were its fields.
type Functions interface {
	// Function returns the function of a name, nil if there is none.
	Function(name string) any
}

// maxDepth is how deep templates may call each other.
const maxDepth = 1000

// Execute writes what a template makes of data. If it returns an error, it has written nothing.
func (t *Template) Execute(out io.Writer, data any) (err error) {
	s := &state{template: t}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("execute template %s: %.200s", t.name, fmt.Sprint(r)) // as of a function that panics
		}
	}()
	if err := s.call(t.name, reflect.ValueOf(data)); err != nil {
		return fmt.Errorf("execute template %s: %w", t.name, err)
	}
	_, err = out.Write(s.out.Bytes())
	return err
}

// state is the state of one execution.
type state struct {
	template  *Template
	out       bytes.Buffer
	at        place
	variables []variable
	depth     int
}

type variable struct {
	name  string
	value reflect.Value
}

var (
	errBreak    = errors.New("break")
	errContinue = errors.New("continue")
)

// call executes a template, with variables of its own.
func (s *state) call(name string, dot reflect.Value) error {
	if s.depth++; s.depth > maxDepth {
		return fmt.Errorf("templates call each other more than %d deep", maxDepth)
	}
	before := s.variables
	s.variables = []variable{{"$", dot}}
	err := s.list(s.template.trees[name].Root, dot)
	s.variables = before
	s.depth--
	return err
}

func (s *state) list(list *parse.ListNode, dot reflect.Value) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		if err := s.node(n, dot); err != nil {
			return err
		}
	}
	return nil
}

func (s *state) node(n parse.Node, dot reflect.Value) (err error) {
	switch n := n.(type) {
	case *parse.TextNode:
		s.at, err = s.template.behind(n, s.at)
		s.out.Write(n.Text)
	case *parse.ActionNode:
		var v reflect.Value
		if v, err = s.pipeline(n.Pipe, dot); err == nil && len(n.Pipe.Decl) == 0 {
			err = s.show(v)
		}
	case *parse.IfNode:
		err = s.branch(&n.BranchNode, dot, false)
	case *parse.WithNode:
		err = s.branch(&n.BranchNode, dot, true)
	case *parse.RangeNode:
		err = s.each(n, dot)
	case *parse.TemplateNode:
		v := reflect.Value{}
		if n.Pipe != nil {
			v, err = s.pipeline(n.Pipe, dot)
		}
		if err == nil {
			err = s.call(n.Name, v)
		}
	case *parse.BreakNode:
		return errBreak
	case *parse.ContinueNode:
		return errContinue
	}
	if err != nil && !errors.Is(err, errBreak) && !errors.Is(err, errContinue) && !errors.As(err, new(*nodeError)) {
		where, what := s.template.trees[s.template.name].ErrorContext(n)
		err = &nodeError{fmt.Sprintf("%s: %s", where, what), err}
	}
	return err
}

// nodeError is an error at a node of a template.
type nodeError struct {
	where string
	err   error
}

func (e *nodeError) Error() string { return e.where + ": " + e.err.Error() }
func (e *nodeError) Unwrap() error { return e.err }

// show writes a value, escaped as its place needs it.
func (s *state) show(v reflect.Value) error {
	as, err := s.at.use()
	if err != nil {
		return err
	}
	s.out.WriteString(escape(as, textOf(v)))
	s.at = s.at.shown()
	return nil
}

// textOf returns the text of a value, as package fmt prints it.
func textOf(v reflect.Value) string {
	v = plain(v)
	for v.Kind() == reflect.Pointer && !v.IsNil() && !isText(v) {
		v = v.Elem()
	}
	if !v.IsValid() {
		return ""
	}
	if v.Kind() == reflect.String && !isText(v) {
		return v.String()
	}
	return fmt.Sprint(v.Interface())
}

// isText reports whether a value says itself what its text is.
func isText(v reflect.Value) bool {
	switch v.Interface().(type) {
	case error, fmt.Stringer:
		return true
	}
	return false
}

// plain returns the value in an interface.
func plain(v reflect.Value) reflect.Value {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	return v
}

// truth reports whether a value counts as true: it is not its type's zero value or empty.
func truth(v reflect.Value) bool {
	v = plain(v)
	switch v.Kind() {
	case reflect.Invalid:
		return false
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() > 0
	case reflect.Struct:
		return true
	}
	return !v.IsZero()
}

// branch executes one branch of a node.
func (s *state) branch(n *parse.BranchNode, dot reflect.Value, with bool) error {
	mark := len(s.variables)
	defer func() { s.variables = s.variables[:mark] }()
	v, err := s.pipeline(n.Pipe, dot)
	if err != nil {
		return err
	}
	if !truth(v) {
		return s.list(n.ElseList, dot)
	}
	if with {
		dot = v
	}
	return s.list(n.List, dot)
}

// each executes the body of a range once for each member of a value.
func (s *state) each(n *parse.RangeNode, dot reflect.Value) error {
	mark := len(s.variables)
	defer func() { s.variables = s.variables[:mark] }()
	v, err := s.value(n.Pipe, dot)
	if err != nil {
		return err
	}
	v = plain(v)
	for v.Kind() == reflect.Pointer {
		v = plain(v.Elem())
	}
	keys, members, err := membersOf(v)
	if err != nil {
		return err
	}
	for i, member := range members {
		s.variables = s.variables[:mark]
		switch d := n.Pipe.Decl; len(d) {
		case 1:
			s.declare(d[0].Ident[0], member)
		case 2:
			s.declare(d[0].Ident[0], keys[i])
			s.declare(d[1].Ident[0], member)
		}
		err := s.list(n.List, member)
		if errors.Is(err, errBreak) {
			return nil
		}
		if err != nil && !errors.Is(err, errContinue) {
			return err
		}
	}
	if len(members) == 0 {
		return s.list(n.ElseList, dot)
	}
	return nil
}

// membersOf returns the keys and members of a value, those of a map in the order of its keys.
func membersOf(v reflect.Value) (keys, members []reflect.Value, err error) {
	switch v.Kind() {
	case reflect.Invalid:
		return nil, nil, nil
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			keys, members = append(keys, reflect.ValueOf(i)), append(members, v.Index(i))
		}
		return keys, members, nil
	case reflect.Map:
		keys = v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int {
			if a.Kind() == reflect.String && b.Kind() == reflect.String {
				return strings.Compare(a.String(), b.String())
			}
			n, _ := order(a, b) // others are in any order
			return n
		})
		for _, k := range keys {
			members = append(members, v.MapIndex(k))
		}
		return keys, members, nil
	case reflect.Int:
		for i := range v.Int() {
			keys, members = append(keys, reflect.ValueOf(int(i))), append(members, reflect.ValueOf(int(i)))
		}
		return keys, members, nil
	}
	return nil, nil, fmt.Errorf("range over a %s", v.Type())
}

func (s *state) declare(name string, v reflect.Value) {
	s.variables = append(s.variables, variable{name, v})
}

// variable returns the last variable of a name.
func (s *state) variable(name string) (*variable, error) {
	for i := len(s.variables) - 1; i >= 0; i-- {
		if s.variables[i].name == name {
			return &s.variables[i], nil
		}
	}
	return nil, fmt.Errorf("no variable is named %s", name)
}

// pipeline evaluates a pipeline, and sets its variables.
func (s *state) pipeline(p *parse.PipeNode, dot reflect.Value) (reflect.Value, error) {
	v, err := s.value(p, dot)
	if err != nil {
		return v, err
	}
	for _, d := range p.Decl {
		if !p.IsAssign {
			s.declare(d.Ident[0], v)
			continue
		}
		known, err := s.variable(d.Ident[0])
		if err != nil {
			return v, err
		}
		known.value = v
	}
	return v, nil
}

// value evaluates a pipeline: each command has the value of the one before as its last
// argument.
func (s *state) value(p *parse.PipeNode, dot reflect.Value) (v reflect.Value, err error) {
	var last []reflect.Value
	for _, c := range p.Cmds {
		if v, err = s.command(c, dot, last); err != nil {
			return v, err
		}
		last = []reflect.Value{v}
	}
	return v, nil
}
