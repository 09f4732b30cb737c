package taskgen_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// mayExit are the functions outside of package main that end the process, as their docs
// say.
var mayExit = []string{
	"internal/subprocess.execute", // a task that panics ends its child as Go would
	"runtime.ServeChild",
	"runtime/taskapp.Command", // in a child process
	"runtime/taskapp.Main",
	"runtime/taskapp.endBy", // at a second signal
}

// TestPackagesReturnErrors holds packages to what CONTRIBUTING.md asks of them: they
// neither panic nor print, do not log by package log, do not exit, and have no init.
func TestPackagesReturnErrors(t *testing.T) {
	for path, file := range parsed(t) {
		if file.Name.Name == "main" || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "examples/") || strings.HasPrefix(path, "internal/testapp/") {
			continue
		}
		for _, found := range badHabits(path, file) {
			t.Error(found)
		}
	}
}

// TestTestsDoNotSleep allows time.Sleep only where testing/synctest runs the clock.
func TestTestsDoNotSleep(t *testing.T) {
	for path, file := range parsed(t) {
		if !strings.HasSuffix(path, "_test.go") || imports(file, "testing/synctest") {
			continue
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && called(call) == "time.Sleep" {
				t.Errorf("%s: %s sleeps: wait for the event, or use testing/synctest", path, file.Name.Name)
			}
			return true
		})
	}
}

// TestBadHabitsAreFound keeps the check from finding nothing.
func TestBadHabitsAreFound(t *testing.T) {
	const src = `package a
import ("fmt"; "log"; "os")
func init() { log.Print("x") }
func F() { panic("x") }
func G() { println("x"); fmt.Println("x"); fmt.Fprintln(os.Stderr, "x"); os.Exit(1) }
func Main() { os.Exit(1) }
`
	file, err := parser.ParseFile(token.NewFileSet(), "runtime/taskapp/a.go", src, 0)
	require.NoError(t, err)
	require.Equal(t, []string{
		"runtime/taskapp/a.go: imports log: use log/slog with the logger of the configuration",
		"runtime/taskapp/a.go: init: make it a function that is called",
		"runtime/taskapp/a.go: F calls panic: return an error",
		"runtime/taskapp/a.go: G calls println: return the text or log it",
		"runtime/taskapp/a.go: G calls fmt.Println: return the text or log it",
		"runtime/taskapp/a.go: G calls os.Exit: return an error",
	}, badHabits("runtime/taskapp/a.go", file))
}

// badHabits returns what a file of a package must not do.
func badHabits(path string, file *ast.File) []string {
	var found []string
	report := func(format string, args ...any) {
		found = append(found, path+": "+fmt.Sprintf(format, args...))
	}
	if imports(file, "log") {
		report("imports log: use log/slog with the logger of the configuration")
	}
	for _, decl := range file.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		if fn.Name.Name == "init" && fn.Recv == nil {
			report("init: make it a function that is called")
		}
		ast.Inspect(fn, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch name := called(call); name {
			case "panic":
				report("%s calls %s: return an error", fn.Name.Name, name)
			case "print", "println", "fmt.Print", "fmt.Printf", "fmt.Println":
				report("%s calls %s: return the text or log it", fn.Name.Name, name)
			case "os.Exit":
				if !slices.Contains(mayExit, filepath.ToSlash(filepath.Dir(path))+"."+fn.Name.Name) {
					report("%s calls %s: return an error", fn.Name.Name, name)
				}
			}
			return true
		})
	}
	return found
}

// called returns the name of a called function, with its package.
func called(call *ast.CallExpr) string {
	switch fun := call.Fun.(type) {
	case *ast.Ident:
		return fun.Name
	case *ast.SelectorExpr:
		if pkg, ok := fun.X.(*ast.Ident); ok {
			return pkg.Name + "." + fun.Sel.Name
		}
	}
	return ""
}

func imports(file *ast.File, path string) bool {
	return slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool { return spec.Path.Value == `"`+path+`"` })
}

// parsed returns the syntax of the repository's Go files, by their paths.
func parsed(t *testing.T) map[string]*ast.File {
	t.Helper()
	files, err := parseAll()
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// parseAll parses the files once for all tests.
var parseAll = sync.OnceValues(func() (map[string]*ast.File, error) {
	files := make(map[string]*ast.File)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_gen.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		files[filepath.ToSlash(path)] = file
		return err
	})
	return files, err
})
