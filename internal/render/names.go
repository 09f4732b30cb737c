package render

import (
	"go/types"
	"maps"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// names keeps the names in the file distinct: the package's declarations, generated
// ones, imports and local variables.
type names struct {
	file     *jen.File
	declared map[string]bool   // names in package scope, including generated ones
	taken    map[string]bool   // names that a new declaration must not have
	locals   map[string]string // names of local variables by their names in the templates
	imports  map[string]string // names of imports by path
	used     map[string]bool   // names of imports
	params   map[string]bool   // parameters of all tasks, which shadow names that a stub needs
}

// localNames returns the variables of the templates. Those of nested loops end in the
// depth.
func localNames() []string {
	return []string{
		"b", "ctx", "depth", "err", "n", "opts", "p", "params", "r", "seen", "v", "id",
		"d", "e", "e2", "e3", "e4", "i", "i2", "i3", "i4", "k", "k2", "k3", "k4", "left", "left2", "left3", "left4", "pairs", "pairs2",
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
	maps.Copy(n.declared, pkg.Declared)
	maps.Copy(n.taken, pkg.Taken)
	for _, t := range pkg.Tasks {
		n.reserve(t)
	}
	for _, name := range localNames() {
		n.local(name)
	}
	return n
}

// reserve reserves the names that the generated code of a task declares.
func (n *names) reserve(t *scan.Task) {
	for _, name := range append(t.GeneratedNames(), "Tasks") {
		n.declared[name], n.taken[name] = true, true
	}
	for _, p := range t.Params {
		n.params[p.Name] = true
	}
}

// fresh returns the first free candidate, or the last one with a number.
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

// local returns the name of a local variable: the template's own, unless the package
// declares it.
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

// declare returns a free name for a new declaration and reserves it.
func (n *names) declare(candidates ...string) string {
	name := fresh(func(name string) bool {
		return !n.taken[name] && !n.declared[name] && !n.used[name] && !n.isLocal(name)
	}, candidates...)
	n.declared[name], n.taken[name] = true, true
	return name
}

// qual refers to an identifier of another package, and imports the package.
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
	if local == name && name == expectedName(path) && path != runtimePath {
		n.file.ImportName(path, local)
		return
	}
	n.file.ImportAlias(path, local)
}

// expectedName returns the name that goimports expects a package of a path to have. It
// writes any other name in front of the path, and so would change a file without it.
func expectedName(importPath string) string {
	base := path.Base(importPath)
	if version, ok := strings.CutPrefix(base, "v"); ok && strings.Contains(importPath, "/") {
		if _, err := strconv.Atoi(version); err == nil {
			base = path.Base(path.Dir(importPath))
		}
	}
	base = strings.TrimPrefix(base, "go-")
	if i := strings.IndexFunc(base, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }); i >= 0 {
		base = base[:i]
	}
	return base
}

// longer returns a second name for an import: gotime for the standard library's time,
// shopmodels for example.com/shop/models.
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
