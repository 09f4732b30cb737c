package render

import (
	"go/types"
	"strconv"
	"strings"
	"unicode"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// names keeps what the file is made of apart: the package's declarations, what
// is generated, imports and local variables.
type names struct {
	file     *jen.File
	declared map[string]bool   // package scope, generated names included
	taken    map[string]bool   // what a new declaration must not be called
	locals   map[string]string // by what the templates call them
	imports  map[string]string // by path
	used     map[string]bool   // names of imports
	params   map[string]bool   // every task's parameters, which shadow what a stub needs
}

// localNames are the variables of the templates. Those of nested loops have
// the depth behind them.
func localNames() []string {
	return []string{
		"b", "ctx", "depth", "err", "n", "opts", "p", "params", "r", "seen", "v", "dec", "enc",
		"e", "e2", "e3", "e4", "i", "i2", "i3", "i4", "k", "k2", "k3", "k4", "left", "left2", "left3", "left4",
	}
}

func newNames(file *jen.File, pkg *scan.Package) *names {
	n := &names{
		file:     file,
		declared: map[string]bool{},
		taken:    map[string]bool{},
		locals:   map[string]string{},
		imports:  map[string]string{},
		used:     map[string]bool{},
		params:   map[string]bool{},
	}
	for name := range pkg.Declared {
		n.declared[name] = true
	}
	for name := range pkg.Taken {
		n.taken[name] = true
	}
	for _, t := range pkg.Tasks {
		for _, name := range append(t.GeneratedNames(), "Tasks") {
			n.declared[name], n.taken[name] = true, true
		}
		for _, p := range t.Params {
			n.params[p.Name] = true
		}
	}
	for _, name := range localNames() {
		n.local(name)
	}
	return n
}

// fresh returns the first of the candidates that is free, or the last with a
// number.
func fresh(free func(string) bool, candidates ...string) string {
	for _, name := range candidates {
		if free(name) {
			return name
		}
	}
	last := candidates[len(candidates)-1]
	for i := 2; ; i++ {
		if name := last + strconv.Itoa(i); free(name) {
			return name
		}
	}
}

// local returns the name of a local variable: the template's own, unless the
// package declares it.
func (n *names) local(base string) string {
	name, ok := n.locals[base]
	if !ok {
		name = fresh(func(name string) bool { return !n.declared[name] && !n.isLocal(name) }, base)
		n.locals[base] = name
	}
	return name
}

func (n *names) isLocal(name string) bool {
	for _, local := range n.locals {
		if local == name {
			return true
		}
	}
	return false
}

// declare returns a free name for a new declaration and takes it.
func (n *names) declare(candidates ...string) string {
	name := fresh(func(name string) bool {
		return !n.taken[name] && !n.declared[name] && !n.used[name] && !n.isLocal(name)
	}, candidates...)
	n.declared[name], n.taken[name] = true, true
	return name
}

// qual names something of another package and imports it.
func (n *names) qual(path, name, id string) *jen.Statement {
	if _, ok := n.imports[path]; !ok {
		n.importAs(path, name)
	}
	return jen.Qual(path, id)
}

func (n *names) importAs(path, name string) {
	local := fresh(func(name string) bool {
		shadowed := path == runtimePath && n.params[name]
		return !shadowed && !n.declared[name] && !n.used[name] && !n.isLocal(name) && types.Universe.Lookup(name) == nil
	}, name, longer(path, name))
	n.imports[path], n.used[local] = local, true
	if local == name && path != runtimePath {
		n.file.ImportName(path, name)
		return
	}
	n.file.ImportAlias(path, local)
}

// longer is a second name for an import: gotime for the standard library's
// time, shopmodels for example.com/shop/models.
func longer(path, name string) string {
	if path == runtimePath {
		return "taskruntime"
	}
	parts := strings.Split(path, "/")
	if !strings.Contains(parts[0], ".") {
		return "go" + name
	}
	for i := len(parts) - 2; i >= 0; i-- {
		word := strings.Map(func(r rune) rune {
			if unicode.IsLetter(r) {
				return unicode.ToLower(r)
			}
			return -1
		}, parts[i])
		if word != "" {
			return word + name
		}
	}
	return "the" + name
}

// receiver returns the name of a receiver's argument of Tasks.
func (n *names) receiver(named *types.Named, used map[string]bool) string {
	name := named.Obj().Name()
	lower := strings.ToLower(name[:1]) + name[1:]
	if r := []rune(name); unicode.IsUpper(r[0]) {
		i := 1
		for i < len(r) && unicode.IsUpper(r[i]) && (i+1 == len(r) || unicode.IsUpper(r[i+1])) {
			i++
		}
		lower = strings.ToLower(string(r[:i])) + string(r[i:])
	}
	chosen := fresh(func(name string) bool {
		return !n.declared[name] && !n.used[name] && !n.isLocal(name) && !used[name] && !jen.IsReservedWord(name)
	}, lower, "the"+strings.ToUpper(lower[:1])+lower[1:])
	used[chosen] = true
	return chosen
}
