// Package render renders the generated Go source of a package's tasks: the stubs that
// queue runs, the definitions, and the codecs of parameters and results.
package render

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"

	"github.com/dave/jennifer/jen"

	"github.com/taskgen/taskgen/internal/scan"
)

// The imports of generated code.
const (
	runtimePath = scan.RuntimePath
	codecPath   = "github.com/taskgen/taskgen/codec"
	msgpackPath = "github.com/vmihailenco/msgpack/v5"
)

// generator renders one package.
type generator struct {
	file    *jen.File
	pkg     *scan.Package
	names   *names
	helpers []*helper          // in the order in which they were first needed
	byType  map[string]*helper // the same by scan.Type.ID
	client  *copier            // of a client package; nil for others

	// Of the function that is being rendered:
	deep  bool // it has the parameter depth
	inMap bool // it encodes a struct, so its values are one level deeper
	key   bool // it returns bytes and no error

	once *jen.Statement // what the next read is called on instead of the reader; nil: the reader
}

// File returns the generated file of a package that has tasks and no problems. It is
// deterministic.
func File(pkg *scan.Package) ([]byte, error) {
	g := newGenerator(pkg)
	g.file.HeaderComment(scan.Header)
	g.handshake()
	g.tasks()
	for _, t := range pkg.Tasks {
		g.stubs(t)
	}
	g.plumbing()
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

// stubs renders the part of a task that its callers use.
func (g *generator) stubs(t *scan.Task) {
	g.stub(t)
	g.batch(t)
	g.call(t)
	if len(t.Params) > 0 {
		g.next(t)
	}
	g.handle(t)
	g.params(t)
}

// plumbingDoc stands above the part of the file that a reviewer need not read.
const plumbingDoc = `The code below is for the runtime.

AppendMsgpack and ReadMsgpack write and read parameters as a MessagePack map keyed
by name. ReadMsgpack skips unknown keys, and reports a missing parameter unless it
has a default. EncodeMsgpack and DecodeMsgpack do the same for msgpack/v5.`

// plumbing renders the part of the tasks that only the runtime uses.
func (g *generator) plumbing() {
	g.comment(plumbingDoc)
	g.file.Line()
	for _, t := range g.pkg.Tasks {
		g.definition(t)
		g.paramsCodec(t)
	}
	// Rendering a helper may require further ones.
	for i := 0; i < len(g.helpers); i++ {
		g.helper(g.helpers[i])
	}
}

// source returns the file, formatted.
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

// groupImports moves the standard library's imports to the front.
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
	g.file.Comment("If this constant is undefined, taskgen and the runtime in go.mod do not match:")
	g.file.Comment("run go get github.com/taskgen/taskgen@latest, then go generate ./...")
	g.file.Const().Id("_").Op("=").Add(g.runtime("SupportsGeneratedV1"))
	g.file.Line()
}

func (g *generator) runtime(name string) *jen.Statement {
	return g.names.qual(runtimePath, "taskrt", name)
}

func (g *generator) codec(name string) *jen.Statement { return g.names.qual(codecPath, "codec", name) }

func (g *generator) context() *jen.Statement { return g.names.qual("context", "context", "Context") }

// onOneLine are the braces of a block that stays on the line of its head, as far as gofmt
// lets it.
var onOneLine = jen.Options{Open: "{", Close: "}", Separator: ";"}

// oneLine renders a block of one statement on the line of its head.
func oneLine(statement *jen.Statement) *jen.Statement { return jen.Custom(onOneLine, statement) }

// comment adds a comment to the file.
func (g *generator) comment(text string) {
	for line := range docLines(text) {
		g.file.Comment(line)
	}
}
