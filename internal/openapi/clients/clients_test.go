// Package clients checks the OpenAPI document by clients that public generators make of it,
// in TypeScript and Python, which call a real server.
package clients

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard"
	"github.com/taskgen/taskgen/internal/codectest"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// installed is where make clients installs the generators, as package-lock.json says.
const installed = "../../../bin/_clients/node_modules"

const token = "a token of the tests, of some length"

// serve returns the URL of the API of a program that executes some tasks.
func serve(t *testing.T, tasks []taskrt.Task) string {
	t.Helper()
	b := memory.New()
	t.Cleanup(func() { _ = b.Close() })
	access, err := dashboard.Bearer(dashboard.Login{User: dashboard.User{Name: "client", Role: dashboard.RoleOperate}, Hash: dashboard.HashToken(token)})
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	h, err := dashboard.New(b, dashboard.Config{Access: access, Logger: quiet, Name: "program"}, tasks)
	require.NoError(t, err)
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)

	consumer, err := taskrt.NewConsumer(b, taskrt.ConsumerConfig{Logger: quiet}, tasks)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- consumer.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return server.URL + "/api/v1"
}

// document writes the OpenAPI document of the API into a folder.
func document(t *testing.T, api, dir string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, api+"/openapi.json", nil)
	require.NoError(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	reply, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.StatusCode, "%s", text)
	path := filepath.Join(dir, "openapi.json")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// run runs a command in a folder, and returns what it prints.
func run(t *testing.T, dir, api, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "API="+api, "TOKEN="+token, "NODE_OPTIONS=")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
	return string(out)
}

// workspace returns a folder with a file of testdata, in which node finds the generators.
func workspace(t *testing.T, files ...string) (dir, bin string) {
	t.Helper()
	modules, err := filepath.Abs(installed)
	require.NoError(t, err)
	_, err = os.Stat(filepath.Join(modules, ".bin", "openapi-typescript"))
	require.NoError(t, err, "the generators of clients are missing; install them with: make clients")
	dir = t.TempDir()
	require.NoError(t, os.Symlink(modules, filepath.Join(dir, "node_modules")))
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "package.json"), []byte(`{"type":"module"}`), 0o600))
	return dir, filepath.Join(modules, ".bin")
}

func TestTypeScript(t *testing.T) {
	dir, bin := workspace(t, "client.ts", "tsconfig.json")
	api := serve(t, codectest.Tasks())
	run(t, dir, api, filepath.Join(bin, "openapi-typescript"), document(t, api, dir), "-o", "api.ts")
	run(t, dir, api, filepath.Join(bin, "tsc"), "-p", ".")
	require.Equal(t, "TypeScript: done\n", run(t, dir, api, "node", "out/client.js"))
}

func TestPython(t *testing.T) {
	dir, bin := workspace(t, "client.py")
	api := serve(t, codectest.Tasks())
	// quicktype reads JSON Schemas, which those of the document are.
	text, err := os.ReadFile(document(t, api, dir))
	require.NoError(t, err)
	var doc struct {
		Components json.RawMessage `json:"components"`
	}
	require.NoError(t, json.Unmarshal(text, &doc))
	schemas, err := json.Marshal(map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "components": doc.Components})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "schemas.json"), schemas, 0o600))
	args := []string{"--src-lang", "schema", "--lang", "python", "--python-version", "3.7", "--out", "models.py"}
	for _, name := range []string{"ScalarsParams", "NamedParams", "ScalarsTaskRun", "NamedTaskRun", "Queued", "Problem"} {
		args = append(args, "schemas.json#/components/schemas/"+name)
	}
	run(t, dir, api, filepath.Join(bin, "quicktype"), args...)
	require.Equal(t, "Python: done\n", run(t, dir, api, python(), "client.py"))
}

// python returns the interpreter of the system: it has the packages of the system.
func python() string {
	const system = "/usr/bin/python3"
	if _, err := os.Stat(system); err == nil {
		return system
	}
	return "python3"
}
