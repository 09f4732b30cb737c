// Package render writes the Go source of a package's tasks: what queues them,
// what describes them, and how their parameters and results travel.
package render

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// What generated code imports.
const (
	runtimePath = "github.com/taskgen/taskgen/runtime"
	codecPath   = "github.com/taskgen/taskgen/codec"
	msgpackPath = "github.com/vmihailenco/msgpack/v5"
)

// generator renders one package.
type generator struct {
	file    *jen.File
	pkg     *scan.Package
	names   *names
	helpers []*helper
	byType  map[string]*helper
	client  *copier // of a client package; else nil
	deep    bool    // a function that counts its depth is being rendered
	inMap   bool    // and it is that of a struct, whose fields are in a map
	key     bool    // a function that returns bytes alone is being rendered
}

// File returns the generated file of a package that has tasks and no problems.
// The same package gives the same bytes.
func File(pkg *scan.Package) ([]byte, error) {
	g := newGenerator(pkg)
	g.file.HeaderComment(scan.Header)
	g.handshake()
	g.tasks()
	for _, t := range pkg.Tasks {
		g.task(t)
	}
	g.allHelpers()
	return g.source()
}

func newGenerator(pkg *scan.Package) *generator {
	g := &generator{
		file:   jen.NewFilePathName(pkg.Path, pkg.Name),
		pkg:    pkg,
		byType: map[string]*helper{},
	}
	g.names = newNames(g.file, pkg)
	return g
}

// task renders all that a task has of its own but its place in Tasks.
func (g *generator) task(t *scan.Task) {
	g.definition(t)
	g.stub(t)
	g.batch(t)
	g.scheduleStub(t)
	g.params(t)
}

// allHelpers renders the helpers that were asked for. Rendering one may ask
// for more.
func (g *generator) allHelpers() {
	for i := 0; i < len(g.helpers); i++ {
		g.helper(g.helpers[i])
	}
}

// source returns the file as gofmt would have it.
func (g *generator) source() ([]byte, error) {
	var out bytes.Buffer
	if err := g.file.Render(&out); err != nil {
		return nil, fmt.Errorf("render package %s: %w", g.pkg.Path, err)
	}
	src, err := format.Source(groupImports(out.Bytes()))
	if err != nil {
		return nil, fmt.Errorf("format code of package %s: %w", g.pkg.Path, err)
	}
	return src, nil
}

// groupImports puts the standard library's imports first, as people write them.
func groupImports(src []byte) []byte {
	const open, end = "import (\n", "\n)\n"
	before, rest, ok := strings.Cut(string(src), open)
	if !ok {
		return src
	}
	block, after, ok := strings.Cut(rest, end)
	if !ok {
		return src
	}
	var standard, others []string
	for line := range strings.SplitSeq(block, "\n") {
		path := line[strings.IndexByte(line, '"')+1:]
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") {
			others = append(others, line)
		} else {
			standard = append(standard, line)
		}
	}
	if len(standard) > 0 && len(others) > 0 {
		standard = append(standard, "")
	}
	return []byte(before + open + strings.Join(append(standard, others...), "\n") + end + after)
}

func (g *generator) handshake() {
	g.file.Comment("If this constant is undefined, taskgen and the runtime in go.mod do not fit:")
	g.file.Comment("go get github.com/taskgen/taskgen@latest, then go generate ./... again.")
	g.file.Const().Id("_").Op("=").Add(g.runtime("SupportsGeneratedV1"))
	g.file.Line()
}

func (g *generator) runtime(name string) *jen.Statement {
	return g.names.qual(runtimePath, "taskrt", name)
}

func (g *generator) codec(name string) *jen.Statement { return g.names.qual(codecPath, "codec", name) }

func (g *generator) context() *jen.Statement { return g.names.qual("context", "context", "Context") }

// comment writes lines as a comment in the file.
func (g *generator) comment(text string) {
	for line := range docLines(text) {
		g.file.Comment(line)
	}
}
