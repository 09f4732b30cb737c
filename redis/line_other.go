//go:build !unix

package redis

import "net"

// silent would tell whether an idle connection is still open; here that shows
// at its next use.
func silent(net.Conn) bool { return true }
