package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkGenerate measures the command as a whole process, in modules whose
// dependencies are built: the time that a developer waits on each save.
func BenchmarkGenerate(b *testing.B) {
	root, err := filepath.Abs("../..")
	require.NoError(b, err)
	bin := filepath.Join(b.TempDir(), "taskgen")
	output, err := exec.CommandContext(b.Context(), "go", "build", "-o", bin, ".").CombinedOutput()
	require.NoError(b, err, "%s", output)

	one, many, none := b.TempDir(), b.TempDir(), b.TempDir()
	project(b, one, root, 1, 1)
	project(b, many, root, 50, 10)
	project(b, none, root, 1, 0)
	for _, c := range []struct{ name, dir, pattern string }{
		{"OnePackage", one, "./p00"},
		{"FiftyPackages", many, "./..."},
		{"NoDirectives", none, "./p00"},
	} {
		b.Run(c.name, func(b *testing.B) {
			medianOf(b, func() { removeOutputs(b, c.dir) }, func() { generate(b, bin, c.dir, c.pattern) })
		})
		b.Run(c.name+"/check", func(b *testing.B) {
			generate(b, bin, c.dir, c.pattern)
			medianOf(b, func() {}, func() { generate(b, bin, c.dir, "-check", c.pattern) })
		})
	}
}

// medianOf runs op once to warm the build cache and then as a benchmark. It reports
// the median in addition to the mean, since noise affects it less.
func medianOf(b *testing.B, prepare, op func()) {
	b.Helper()
	prepare()
	op()
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		prepare()
		b.StartTimer()
		start := time.Now()
		op()
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "median-ms")
}

func generate(b *testing.B, bin, dir string, args ...string) {
	b.Helper()
	cmd := exec.CommandContext(b.Context(), bin, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off", "GOPROXY=off")
	output, err := cmd.CombinedOutput()
	require.NoError(b, err, "%s", output)
}

func removeOutputs(b *testing.B, dir string) {
	b.Helper()
	outputs, err := filepath.Glob(filepath.Join(dir, "*", "tasks_gen.go"))
	require.NoError(b, err)
	for _, path := range outputs {
		require.NoError(b, os.Remove(path))
	}
}

// project writes a module of several packages, the first of which have tasks. All
// import what an application does: a database client, net/http, and a package of its
// own.
func project(b *testing.B, dir, root string, packages, withTasks int) {
	b.Helper()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(b, err)
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(b, err)
	_, rest, _ := strings.Cut(string(mod), "\n")
	writeText(b, filepath.Join(dir, "go.sum"), string(sum))
	writeText(b, filepath.Join(dir, "go.mod"), "module example.com/app\n"+rest+
		"\nrequire github.com/taskgen/taskgen v0.0.0\nreplace github.com/taskgen/taskgen => "+root+"\n")
	writeText(b, filepath.Join(dir, "models", "models.go"), models)
	for i := range packages {
		name := fmt.Sprintf("p%02d", i)
		for file := range 5 {
			writeText(b, filepath.Join(dir, name, fmt.Sprintf("file%d.go", file)), fmt.Sprintf(plainFile, name, file))
		}
		if i < withTasks {
			writeText(b, filepath.Join(dir, name, "tasks.go"), fmt.Sprintf(taskFile, name))
		}
	}
}

func writeText(b *testing.B, path, content string) {
	b.Helper()
	require.NoError(b, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(b, os.WriteFile(path, []byte(content), 0o644))
}

const models = `package models

import "time"

type Item struct {
	ID      string
	Created time.Time
	Tags    []string
}

type Page[T any] struct {
	Items []T
	Next  string
}
`

const plainFile = `package %[1]s

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/redis/go-redis/v9"

	"example.com/app/models"
)

// Store%[2]d keeps items.
type Store%[2]d struct {
	Redis *redis.Client
	HTTP  *http.Client
}

// Put writes one item. It is not a task: it has no comment that says so.
func (s *Store%[2]d) Put(ctx context.Context, item models.Item) error {
	b, err := json.Marshal(item)
	if err != nil {
		return err
	}
	return s.Redis.Set(ctx, item.ID, b, 0).Err()
}
`

const taskFile = `package %[1]s

import (
	"context"
	"time"

	"example.com/app/models"
)

// Import stores a page of items.
//
//task:io
//task:name %[1]s_import
//task:retry 5
func (s *Store0) Import(ctx context.Context, page models.Page[models.Item], dry bool) (int, error) {
	for _, item := range page.Items {
		if err := s.Put(ctx, item); err != nil {
			return 0, err
		}
		if _, err := QueueScore(ctx, item, time.Minute); err != nil {
			return 0, err
		}
	}
	return len(page.Items), nil
}

// Score rates an item.
//
//task:cpu
//task:name %[1]s_score
//task:timeout 10m
func Score(ctx context.Context, item models.Item, limit time.Duration) (float64, error) {
	return float64(len(item.Tags)), nil
}
`
