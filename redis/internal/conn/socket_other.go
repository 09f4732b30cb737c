//go:build !unix

package conn

import (
	"net"
	"time"
)

// stillOpen cannot look at an idle connection here: a closed one shows at its next use.
func stillOpen(net.Conn) bool { return true }

// spinUntilReadable does not spin here.
func spinUntilReadable(net.Conn, time.Duration) bool { return false }
