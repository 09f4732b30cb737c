package taskgen_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/taskgen/taskgen"

// TestImportsGoOneWay checks the arrows in CONTRIBUTING.md.
func TestImportsGoOneWay(t *testing.T) {
	// Each package may import these of the module and no others.
	allowed := map[string][]string{
		"cmd/taskgen":                  {"internal/taskgen"},
		"internal/taskgen":             {"internal/compat", "internal/cron", "internal/openapi", "internal/render", "internal/schema", "internal/scan", "internal/directive"},
		"internal/render":              {"internal/schema", "internal/scan", "internal/directive"},
		"internal/compat":              {"internal/schema", "internal/scan"},
		"internal/schema":              {"internal/ordered"}, // the dashboard has it: no go/types
		"internal/ordered":             nil,
		"internal/openapi":             {"internal/ordered", "internal/schema"},
		"internal/openapi/openapitest": nil,
		"internal/scan":                {"internal/cron", "internal/directive", "internal/naming", "internal/schema"},
		"internal/directive":           {"internal/cron", "internal/naming", "internal/suggest"},
		"internal/naming":              nil,
		"internal/cron":                nil,
		"codec":                        nil,
		"broker":                       {"codec"},
		"broker/brokertest":            {"broker", "broker/maintenance", "internal/poison"},
		"broker/maintenance":           {"broker"},
		"internal/poison":              {"broker"},
		"broker/brokerurl":             {"broker", "broker/memory", "redis"},
		"broker/memory":                {"broker"},
		"redis":                        {"broker", "broker/maintenance", "codec", "internal/poison", "internal/urlaccess", "redis/internal/conn", "redis/internal/resp", "redis/internal/script", "redis/internal/wire"},

		"sqlite": {"broker"},

		"redis/internal/conn":         {"broker", "internal/backoff", "internal/suggest", "redis/internal/resp", "redis/internal/script"},
		"redis/internal/script":       {"broker", "redis/internal/resp", "redis/internal/wire"},
		"redis/internal/script/print": {"redis/internal/script"},
		"redis/internal/wire":         {"broker", "codec"},
		"redis/internal/resp":         nil,

		"internal/subprocess": {"broker", "codec", "internal/subprocess/cgroup", "internal/subprocess/orphan", "internal/urlaccess"},
		"internal/urlaccess":  nil,
		"internal/backoff":    nil,
		"internal/relay":      {"broker", "codec", "internal/subprocess", "internal/text"},
		"internal/secret":     {"broker", "codec", "internal/subprocess", "internal/text", "internal/wireform"},
		"internal/wireform":   {"codec"},
		"internal/risks":      {"broker"},
		"internal/inspect":    {"broker", "broker/maintenance", "internal/fleet"},
		"internal/text":       nil,
		"internal/tick":       {"broker", "internal/backoff", "internal/cron", "internal/measure", "internal/text", "internal/ulid"},
		"internal/measure":    nil,
		"internal/counting":   {"broker"},
		"internal/instance":   {"broker"},
		"internal/ulid":       nil,
		"internal/worker":     {"broker", "broker/maintenance", "internal/backoff", "internal/measure", "internal/poison", "internal/text"},
		"internal/suggest":    nil,
		"internal/jsonform":   {"codec", "internal/schema", "internal/suggest"},
		"internal/sigpipe":    nil,
		"internal/redistest":  nil,
		"internal/promtest":   nil,
		"internal/codectest":  {"codec", "runtime"},
		"runtime/taskapp":     {"broker", "broker/brokerurl", "broker/maintenance", "dashboard", "internal/fleet", "internal/naming", "internal/sigpipe", "internal/subprocess", "internal/suggest", "internal/text", "metrics", "runtime"},
		"runtime":             {"broker", "broker/maintenance", "codec", "internal/backoff", "internal/counting", "internal/inspect", "internal/instance", "internal/measure", "internal/naming", "internal/relay", "internal/risks", "internal/secret", "internal/sigpipe", "internal/subprocess", "internal/text", "internal/tick", "internal/ulid", "internal/wireform", "internal/worker"},

		"dashboard":                 {"broker", "dashboard/internal/access", "dashboard/internal/api", "dashboard/internal/bulk", "dashboard/internal/web", "runtime"},
		"dashboard/internal/access": nil,
		"dashboard/internal/live":   nil,
		"dashboard/internal/markup": nil,
		"dashboard/internal/web":    {"broker", "dashboard/internal/access", "dashboard/internal/bulk", "dashboard/internal/live", "dashboard/internal/markup", "dashboard/internal/typed", "internal/cron", "internal/jsonform", "internal/schema", "internal/text", "runtime"},
		"dashboard/internal/typed":  {"internal/jsonform", "internal/naming", "internal/schema", "runtime"},
		"dashboard/internal/api":    {"broker", "codec", "dashboard/internal/access", "dashboard/internal/bulk", "internal/jsonform", "internal/naming", "internal/openapi", "runtime"},
		"dashboard/internal/bulk":   {"dashboard/internal/access", "runtime"},

		"otel":           {"broker", "runtime"},
		"tasktest":       {"broker", "broker/memory", "runtime"},
		"metrics":        {"broker", "internal/counting", "internal/fleet", "runtime"},
		"internal/fleet": {"broker", "broker/maintenance"},

		"internal/subprocess/cgroup": nil,
		"internal/subprocess/orphan": nil,
	}
	// Each of these libraries is known to these packages only.
	owners := map[string][]string{
		"github.com/chromedp":                   nil, // drives the browser of tests
		"github.com/dave/jennifer":              {"internal/render"},
		"github.com/ncruces/go-sqlite3":         {"sqlite"},
		"github.com/rogpeppe/go-internal":       {"cmd/taskgen"},
		"golang.org/x/crypto":                   {"dashboard/internal/access"},
		"golang.org/x/tools":                    {"internal/scan"},
		"github.com/redis/go-redis/v9":          {"redis", "redis/internal/conn"},
		"go.opentelemetry.io":                   {"otel", "examples/tracing"},
		"github.com/prometheus":                 {"metrics", "runtime/taskapp"},
		"github.com/santhosh-tekuri/jsonschema": {"internal/openapi/openapitest"},
	}
	for pkg, imports := range packages(t) {
		list, known := allowed[pkg]
		for _, path := range imports {
			if inner, ok := strings.CutPrefix(path, module+"/"); ok && !free(pkg) {
				require.True(t, known, "%s is not in this table; add what it may import", pkg)
				require.Contains(t, list, inner, "%s may not import it", pkg)
			}
			for library, owner := range owners {
				if path == library || strings.HasPrefix(path, library+"/") {
					require.Contains(t, owner, pkg, "%s may not import %s", pkg, library)
				}
			}
		}
	}
}

// TestTheDashboardLinksNoTemplates: the packages of templates have the linker keep all exported
// methods of a program, see internal/markup.
func TestTheDashboardLinksNoTemplates(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./dashboard").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "text/template/parse")
	require.NotContains(t, deps, "html/template")
	require.NotContains(t, deps, "text/template")
}

// TestOnlyNewKnowsGoRedis checks that package redis uses the client library through
// redis/internal/conn, except for the parameter of New.
func TestOnlyNewKnowsGoRedis(t *testing.T) {
	files, err := filepath.Glob("redis/*.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || filepath.ToSlash(path) == "redis/redis.go" {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range file.Imports {
			require.NotContains(t, spec.Path.Value, "go-redis", path)
		}
	}
}

// free reports whether a package uses the module as its users do.
func free(pkg string) bool {
	return strings.HasPrefix(pkg, "examples/") || strings.HasPrefix(pkg, "internal/testapp/")
}

// packages returns the imports of the module's packages, without tests, by their
// paths below the module's.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...").Output()
	require.NoError(t, err)
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		imports[strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")] = fields[1:]
	}
	require.Contains(t, imports, "runtime")
	return imports
}

// TestRuntimeIsImportedAsTaskrt checks the name of the package that shares its own
// with Go's runtime.
func TestRuntimeIsImportedAsTaskrt(t *testing.T) {
	seen := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			if p, _ := strconv.Unquote(spec.Path.Value); p != module+"/runtime" {
				continue
			}
			seen++
			require.True(t, spec.Name != nil && spec.Name.Name == "taskrt", "%s imports it under another name than taskrt", path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Positive(t, seen)
}

// TestGeneratedCodeNeedsNothingInternal checks imports, because generated code
// compiles in its user's module.
func TestGeneratedCodeNeedsNothingInternal(t *testing.T) {
	files, err := filepath.Glob("examples/*/tasks/tasks_gen.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		require.NoError(t, err)
		internal := slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool {
			return strings.Contains(spec.Path.Value, "/internal/")
		})
		require.False(t, internal, path)
	}
}

// TestOnlyWhoImportsOtelLinksOpenTelemetry: neither a producer nor a whole program does by
// itself.
func TestOnlyWhoImportsOtelLinksOpenTelemetry(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./examples/greeter/...", "./redis", "./runtime/taskapp", "./cmd/taskgen").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module+"/runtime/taskapp")
	for _, dep := range deps {
		require.False(t, strings.HasPrefix(dep, "go.opentelemetry.io/"), "a program without package otel links %s", dep)
	}
	out, err = exec.Command("go", "list", "-deps", "./otel").Output()
	require.NoError(t, err)
	for dep := range strings.FieldsSeq(string(out)) {
		for _, not := range []string{"go.opentelemetry.io/otel/sdk", "go.opentelemetry.io/otel/exporters", "google.golang.org/", module + "/redis", module + "/broker/memory"} {
			require.False(t, strings.HasPrefix(dep, not), "package otel links %s, which the program chooses", dep)
		}
	}
}

// TestOnlyWhoImportsMetricsLinksPrometheus: a producer does not, nor a consumer of its own
// main. A program of package taskapp does, for serve --http.
func TestOnlyWhoImportsMetricsLinksPrometheus(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./examples/greeter/tasks", "./runtime", "./redis", "./broker/brokerurl", "./otel", "./cmd/taskgen").Output()
	require.NoError(t, err)
	for dep := range strings.FieldsSeq(string(out)) {
		for _, not := range []string{"github.com/prometheus/", "google.golang.org/protobuf", module + "/metrics", "net/http/pprof"} {
			require.False(t, strings.HasPrefix(dep, not), "a program without package metrics links %s", dep)
		}
	}
	out, err = exec.Command("go", "list", "-deps", "./metrics").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "github.com/prometheus/client_golang/prometheus")
	for _, dep := range deps {
		for _, not := range []string{"github.com/spf13/", module + "/redis", module + "/broker/memory", module + "/runtime/taskapp"} {
			require.False(t, strings.HasPrefix(dep, not), "package metrics links %s, which the program chooses", dep)
		}
	}
}

// TestTheGeneratorLinksNoServer: package net/http and cgo double how long it takes to start.
func TestTheGeneratorLinksNoServer(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/taskgen").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module+"/internal/openapi")
	for _, not := range []string{"net/http", "crypto/tls", "runtime/cgo"} {
		require.NotContains(t, deps, not)
	}
}

// TestAProducerLinksOneBroker: a program that queues on Redis holds neither the command
// line nor the embedded broker.
func TestAProducerLinksOneBroker(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./examples/greeter/tasks", "./redis").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, module+"/runtime")
	for _, dep := range deps {
		for _, not := range []string{"github.com/spf13/", module + "/broker/memory", module + "/broker/brokerurl", module + "/runtime/taskapp"} {
			require.False(t, strings.HasPrefix(dep, not), "a producer links %s", dep)
		}
	}
	out, err = exec.Command("go", "list", "-deps", "./runtime").Output()
	require.NoError(t, err)
	require.NotContains(t, strings.Fields(string(out)), module+"/redis", "runtime knows no broker")
}
