package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/taskgen/taskgen/internal/taskgen"
)

// addClients adds to the result the client packages and test kits that go:generate lines of
// its packages write, so that -check and -diff cover them too.
func addClients(ctx context.Context, opts options, result *taskgen.Result) error {
	for _, dir := range result.Dirs {
		lines, err := generateLines(dir)
		if err != nil {
			return err
		}
		for _, args := range lines {
			theirs, _, done := parse(append([]string{"-C", dir}, args...), io.Discard, io.Discard)
			if done || theirs.mode != write {
				continue
			}
			if theirs.tests {
				if err := addTestKits(ctx, opts, theirs, result); err != nil {
					return err
				}
			}
			if theirs.client == nil {
				continue
			}
			target := filepath.Join(theirs.client.Dir, taskgen.ClientName)
			if slices.ContainsFunc(result.Files, func(f taskgen.File) bool { return f.Target == target }) {
				continue
			}
			if err := addClient(ctx, opts, theirs, target, result); err != nil {
				return err
			}
		}
	}
	return nil
}

// addClient adds the client that one go:generate line writes, and its problems if no
// others are known.
func addClient(ctx context.Context, opts, theirs options, target string, result *taskgen.Result) error {
	made, err := taskgen.Run(ctx, taskgen.Config{Dir: theirs.dir, Patterns: theirs.patterns, Client: theirs.client})
	if err != nil {
		return &lineError{fmt.Errorf("check %s, written by a go:generate line in %s: %w", shown(opts.dir, target), shown(opts.dir, theirs.dir), err)}
	}
	for _, f := range made.Files {
		if f.Target == target {
			f.Path = shown(opts.dir, target)
			result.Files = append(result.Files, f)
		}
	}
	if len(result.Problems) == 0 {
		result.Problems = append(result.Problems, made.Problems...)
	}
	return nil
}

// addTestKits adds the test kits that one go:generate line writes, and their problems if no
// others are known.
func addTestKits(ctx context.Context, opts, theirs options, result *taskgen.Result) error {
	made, err := taskgen.Run(ctx, taskgen.Config{Dir: theirs.dir, Patterns: theirs.patterns, Tests: true})
	if err != nil {
		return &lineError{fmt.Errorf("check test kits, written by a go:generate line in %s: %w", shown(opts.dir, theirs.dir), err)}
	}
	for _, f := range made.Files {
		if strings.HasSuffix(f.Target, taskgen.TestKitSuffix) &&
			!slices.ContainsFunc(result.Files, func(g taskgen.File) bool { return g.Target == f.Target }) {
			f.Path = shown(opts.dir, f.Target)
			result.Files = append(result.Files, f)
		}
	}
	if len(result.Problems) == 0 {
		result.Problems = append(result.Problems, made.Problems...)
	}
	return nil
}

// lineError is an error in the arguments of a go:generate line.
type lineError struct{ error }

func (e *lineError) Unwrap() error { return e.error }

// generateLines returns the arguments of the package's go:generate lines that run
// taskgen.
func generateLines(dir string) (lines [][]string, err error) {
	paths, err := goFiles(dir)
	if err != nil {
		return nil, fmt.Errorf("find go:generate lines: %w", err)
	}
	for _, path := range paths {
		source, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("find go:generate lines: %w", err)
		}
		for line := range strings.Lines(string(source)) {
			rest, ok := strings.CutPrefix(line, "//go:generate ")
			if !ok {
				continue
			}
			if args, ok := taskgenArgs(rest); ok {
				lines = append(lines, args)
			}
		}
	}
	return lines, nil
}

// goFiles returns the Go files of a package's folder. As for the go command, folders,
// links to folders, and names that begin with a dot or an underscore are none: an editor's
// lock file is a link to nothing.
func goFiles(dir string) (paths []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(dir, e.Name())
		if filepath.Ext(name) != ".go" || name[0] == '.' || name[0] == '_' {
			continue
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			continue
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// taskgenArgs returns the arguments of a go:generate line that runs taskgen. It
// reports false for other commands and for lines with variables.
func taskgenArgs(line string) (args []string, ok bool) {
	words, err := unquote(strings.Fields(line))
	if err != nil || strings.Contains(line, "$") {
		return nil, false
	}
	for len(words) > 0 && slices.Contains([]string{"go", "tool", "run"}, words[0]) {
		words = words[1:]
	}
	if len(words) == 0 {
		return nil, false
	}
	command, _, _ := strings.Cut(words[0], "@")
	return words[1:], filepath.Base(command) == "taskgen"
}

// unquote replaces quoted words by their values.
func unquote(words []string) (_ []string, err error) {
	for i, word := range words {
		if strings.HasPrefix(word, `"`) {
			if words[i], err = strconv.Unquote(word); err != nil {
				return nil, err
			}
		}
	}
	return words, nil
}

// shown returns a path for messages: relative to dir if it is below dir.
func shown(dir, path string) string {
	if dir, err := filepath.Abs(dir); err == nil {
		if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel)
		}
	}
	return path
}
