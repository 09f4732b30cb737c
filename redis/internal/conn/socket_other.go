//go:build !unix

package conn

import (
	"net"
	"time"
)

// silent would tell whether an idle connection is still open; here that shows
// at its next use.
func silent(net.Conn) bool { return true }

// await would wait for a reply without giving the processor away.
func await(net.Conn, time.Duration) bool { return false }
