// Command print writes the scripts as they are sent to the server into a folder, for
// programs in other languages (docs/wire.md) and for luacheck.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/taskgen/taskgen/redis/internal/script"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: print <folder>")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "print:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	scripts, err := script.Load()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, s := range scripts.All() {
		if err := os.WriteFile(filepath.Join(dir, name+".lua"), []byte(s.Source), 0o644); err != nil {
			return err
		}
	}
	return nil
}
