//go:build !linux

package sqlite

// checkFileSystem returns nil: only Linux is asked for the kind of file system.
func checkFileSystem(string) error { return nil }
