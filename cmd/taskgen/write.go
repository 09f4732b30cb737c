package main

import (
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
func replace(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.Write(content)
	if e := tmp.Chmod(0o644); err == nil {
		err = e
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
