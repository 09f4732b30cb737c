package sqlite

import (
	"fmt"
	"syscall"
)

// checkFileSystem returns an error if a folder is on a network file system.
func checkFileSystem(folder string) error {
	var stat syscall.Statfs_t
	if err := syscall.Statfs(folder, &stat); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", folder, err)
	}
	if name := networkFileSystem(uint32(stat.Type)); name != "" {
		return fmt.Errorf("%s is on %s, a network file system, where processes can damage the file: use a local disk, or Redis", folder, name)
	}
	return nil
}

// networkFileSystem returns the name of a network file system, by the number that statfs
// returns; empty for any other.
func networkFileSystem(number uint32) string {
	switch number {
	case 0x6969:
		return "NFS"
	case 0x517b, 0xff534d42, 0xfe534d42:
		return "SMB"
	case 0x01021997:
		return "9P"
	case 0x5346414f:
		return "AFS"
	case 0x00c36400:
		return "Ceph"
	}
	return ""
}
