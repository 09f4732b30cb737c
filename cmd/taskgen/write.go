package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"github.com/taskgen/taskgen/internal/taskgen"
)

// apply writes or removes one output. It leaves a file alone that is up to date.
func apply(f taskgen.File) error {
	switch f.Change {
	case taskgen.Same:
		return nil
	case taskgen.Orphan:
		if err := os.Remove(f.Target); err != nil {
			return fmt.Errorf("remove output: %w", err)
		}
		return nil
	case taskgen.Missing:
		if err := os.MkdirAll(filepath.Dir(f.Target), 0o755); err != nil { // a client's directory may be new
			return fmt.Errorf("write output: %w", err)
		}
	}
	return replace(f.Target, f.Content)
}

// replace writes a file atomically: readers see the old bytes or the new ones.
func replace(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if err = fill(tmp, content); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// fill writes a file and closes it in any case. It returns the first error.
func fill(file *os.File, content []byte) error {
	_, err := file.Write(content)
	return cmp.Or(err, file.Chmod(0o644), file.Close())
}
