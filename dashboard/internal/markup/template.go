package markup

import (
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"text/template/parse"
)

// Template is a template and those that it uses. It may be executed concurrently.
type Template struct {
	name  string
	trees map[string]*parse.Tree
	funcs map[string]any
	texts sync.Map // where texts end, by textAt
}

// textAt is a text of a template, and the place where it begins.
type textAt struct {
	node *parse.TextNode
	at   place
}

// behind returns the place behind a text.
func (t *Template) behind(n *parse.TextNode, at place) (place, error) {
	key := textAt{n, at}
	if end, known := t.texts.Load(key); known {
		return end.(place), nil
	}
	end, err := at.read(string(n.Text))
	if err == nil {
		t.texts.Store(key, end)
	}
	return end, err
}

// Parse reads templates. The first is executed; the others define what it uses. funcs are the
// functions that they call, beside and, or, not, len, index, print, printf, eq, ne, lt, le, gt
// and ge. It returns an error if a template shows a value where that is not safe.
func Parse(files fs.FS, funcs map[string]any, names ...string) (*Template, error) {
	t := &Template{trees: make(map[string]*parse.Tree), funcs: builtins()}
	maps.Copy(t.funcs, funcs)
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		tree := parse.New(name)
		if _, err := tree.Parse(string(text), "", "", t.trees, t.funcs); err != nil {
			return nil, err
		}
		if i == 0 {
			t.name = name
		}
	}
	c := &checker{template: t, ends: make(map[call]place)}
	end, err := c.list(t.trees[t.name].Root, place{})
	if err != nil {
		return nil, err
	}
	if end != (place{}) {
		return nil, fmt.Errorf("template %s ends within a tag", t.name)
	}
	return t, nil
}

// call is a template that begins at a place.
type call struct {
	name string
	at   place
}

// checker checks where templates show values.
type checker struct {
	template *Template
	ends     map[call]place // where they end; of those that are not checked yet: where they begin
	loop     place          // where the innermost range began
}

// list returns the place behind some nodes.
func (c *checker) list(list *parse.ListNode, at place) (end place, err error) {
	if list == nil {
		return at, nil
	}
	for _, n := range list.Nodes {
		if at, err = c.node(n, at); err != nil {
			return at, err
		}
	}
	return at, nil
}

func (c *checker) node(n parse.Node, at place) (place, error) {
	switch n := n.(type) {
	case *parse.TextNode:
		end, err := c.template.behind(n, at)
		return end, c.wrong(n, err)
	case *parse.ActionNode:
		if len(n.Pipe.Decl) > 0 {
			return at, nil
		}
		_, err := at.use()
		return at.shown(), c.wrong(n, err)
	case *parse.IfNode:
		return c.branch(&n.BranchNode, at)
	case *parse.WithNode:
		return c.branch(&n.BranchNode, at)
	case *parse.RangeNode:
		return c.loops(n, at)
	case *parse.BreakNode, *parse.ContinueNode:
		_, err := at.join(c.loop)
		return at, c.wrong(n, err)
	case *parse.TemplateNode:
		return c.call(n, at)
	case *parse.CommentNode:
		return at, nil
	}
	return at, c.wrong(n, fmt.Errorf("nodes of type %T are unknown", n))
}

// loops returns the place behind a range: its body begins where it was entered, or ended.
func (c *checker) loops(n *parse.RangeNode, at place) (place, error) {
	before := c.loop
	defer func() { c.loop = before }()
	for range 3 { // a place gets stricter twice at most
		c.loop = at
		end, err := c.list(n.List, at)
		if err != nil {
			return at, err
		}
		joined, err := at.join(end)
		if err != nil {
			return at, c.wrong(n, err)
		}
		if joined == at {
			break
		}
		at = joined
	}
	other, err := c.list(n.ElseList, at)
	if err != nil {
		return at, err
	}
	end, err := at.join(other)
	return end, c.wrong(n, err)
}

// branch returns the place behind a node with two branches.
func (c *checker) branch(n *parse.BranchNode, at place) (place, error) {
	end, err := c.list(n.List, at)
	if err != nil {
		return at, err
	}
	other, err := c.list(n.ElseList, at)
	if err != nil {
		return at, err
	}
	end, err = end.join(other)
	return end, c.wrong(n, err)
}

// call returns the place behind the call of a template. One that calls itself ends where it
// begins.
func (c *checker) call(n *parse.TemplateNode, at place) (place, error) {
	tree := c.template.trees[n.Name]
	if tree == nil {
		return at, c.wrong(n, fmt.Errorf("no template is named %q", n.Name))
	}
	key := call{n.Name, at}
	if end, known := c.ends[key]; known {
		return end, nil
	}
	c.ends[key] = at
	end, err := c.list(tree.Root, at)
	if err != nil {
		return at, err
	}
	c.ends[key] = end
	if _, err := at.join(end); err != nil {
		// Else a call of itself was checked with another end than it has.
		return at, c.wrong(n, fmt.Errorf("template %q ends in another place of the markup than it begins", n.Name))
	}
	return end, nil
}

// wrong adds to an error at which node it is.
func (c *checker) wrong(n parse.Node, err error) error {
	if err == nil {
		return nil
	}
	where, what := c.template.trees[c.template.name].ErrorContext(n)
	return fmt.Errorf("template %s: %w: %s", where, err, what)
}
