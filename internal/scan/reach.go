package scan

import (
	"cmp"
	"fmt"
	"go/types"
	"slices"
	"strings"
)

// unreachable returns why generated code in the package cannot name a type, or "".
func (c *converter) unreachable(obj *types.TypeName) string {
	switch {
	case obj.Pkg() == nil || obj.Pkg().Path() == c.pkg.Path():
		return ""
	case strings.HasPrefix(obj.Name(), cgoPrefix):
		return ofC("C." + strings.TrimPrefix(obj.Name(), cgoPrefix))
	case !obj.Exported():
		return fmt.Sprintf("is of type %s.%s, which is not exported", obj.Pkg().Name(), obj.Name())
	case !Importable(obj.Pkg().Path(), c.pkg.Path()):
		return fmt.Sprintf("is of type %s.%s, which package %s cannot import", obj.Pkg().Name(), obj.Name(), c.pkg.Path())
	}
	return ""
}

// Importable reports whether package from may import path, by Go's rules for internal
// and vendored packages.
func Importable(path, from string) bool {
	if strings.HasPrefix(path, "vendor/") || strings.Contains(path, "/vendor/") {
		return false
	}
	i := strings.LastIndex("/"+path+"/", "/internal/")
	if i < 0 {
		return true
	}
	root := strings.TrimSuffix(path[:i], "/")
	return root != "" && (from == root || strings.HasPrefix(from, root+"/"))
}

// reach checks that the package can name a type and its type arguments.
func (c *converter) reach(t types.Type, path string) *culprit {
	alias, _ := t.(*types.Alias)
	switch t := types.Unalias(t).(type) {
	case *types.Pointer:
		return c.reach(t.Elem(), path)
	case *types.Slice:
		return c.reach(t.Elem(), path)
	case *types.Array:
		return c.reach(t.Elem(), path)
	case *types.Map:
		return cmp.Or(c.reach(t.Key(), path), c.reach(t.Elem(), path))
	case *types.Interface, *types.Signature, *types.Chan:
		return &culprit{path: path, why: "has a type argument of type " + c.print(t)}
	case *types.Named:
		return c.reachNamed(t, alias, path)
	}
	return nil
}

// reachNamed is reach for a named type, which the source may write by an alias.
func (c *converter) reachNamed(named *types.Named, alias *types.Alias, path string) *culprit {
	if obj := named.Obj(); obj.Pkg() != nil {
		if c.pass.generated(obj) {
			return &culprit{path: path, generated: c.print(named)}
		}
		if why := c.unreachable(obj); why != "" && !c.public(named, alias) {
			return &culprit{path: path, why: why}
		}
		if err := c.pass.halfParsed(obj.Pkg().Path()); err != nil {
			return &culprit{path: path, why: fmt.Sprintf("is of type %s, whose package does not parse: %s", c.print(named), err)}
		}
	}
	for arg := range named.TypeArgs().Types() {
		if bad := c.reach(arg, path); bad != nil {
			return bad
		}
	}
	return nil
}

// public reports whether the package can name a type that it cannot name itself, by an alias
// of it: the one that the source writes, or one of a package that it imports, as a library
// has for its internal types.
func (c *converter) public(named *types.Named, alias *types.Alias) bool {
	id := types.TypeString(named, nil)
	if c.pass.aliases[c.pkg.Path()][id] != nil {
		return true
	}
	for alias != nil && c.unreachable(alias.Obj()) != "" {
		alias, _ = alias.Rhs().(*types.Alias)
	}
	if alias == nil {
		alias = c.aliasOf(named)
	}
	if alias == nil {
		return false
	}
	if c.pass.aliases[c.pkg.Path()] == nil {
		c.pass.aliases[c.pkg.Path()] = map[string]*types.Alias{}
	}
	c.pass.aliases[c.pkg.Path()][id] = alias
	return true
}

// aliasOf finds an alias of a type in the packages that the package imports, directly or
// not, the near ones first. It returns nil if there is none.
func (c *converter) aliasOf(named *types.Named) *types.Alias {
	met := map[*types.Package]bool{}
	for level := []*types.Package{c.pkg}; len(level) > 0; {
		var next []*types.Package
		for _, p := range level {
			for _, name := range p.Scope().Names() {
				obj, ok := p.Scope().Lookup(name).(*types.TypeName)
				if !ok || !obj.IsAlias() || c.unreachable(obj) != "" {
					continue
				}
				if alias := standsFor(obj.Type(), named); alias != nil {
					return alias
				}
			}
			for _, i := range p.Imports() {
				if !met[i] {
					met[i] = true
					next = append(next, i)
				}
			}
		}
		slices.SortFunc(next, func(a, b *types.Package) int { return strings.Compare(a.Path(), b.Path()) })
		level = next
	}
	return nil
}

// standsFor returns t if it is an alias of a type. If it is one of a generic type, with the
// same parameters, it returns the instance with the arguments of the type.
func standsFor(t types.Type, named *types.Named) *types.Alias {
	alias, ok := t.(*types.Alias)
	if !ok {
		return nil
	}
	target, ok := types.Unalias(alias).(*types.Named)
	params, args := alias.TypeParams(), named.TypeArgs()
	switch {
	case !ok || declaration(target) != declaration(named):
		return nil
	case params.Len() == 0:
		if types.TypeString(target, nil) != types.TypeString(named, nil) {
			return nil
		}
		return alias
	case params.Len() != args.Len() || target.TypeArgs().Len() != args.Len():
		return nil
	}
	for i := range params.Len() {
		if target.TypeArgs().At(i) != types.Type(params.At(i)) {
			return nil
		}
	}
	made, err := types.Instantiate(nil, alias, slices.Collect(args.Types()), false)
	if err != nil {
		return nil
	}
	instance, _ := made.(*types.Alias)
	return instance
}

// declaration returns the name of a type's declaration, with its package.
func declaration(named *types.Named) string {
	if p := named.Obj().Pkg(); p != nil {
		return p.Path() + "." + named.Obj().Name()
	}
	return named.Obj().Name()
}
