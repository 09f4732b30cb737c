//go:build unix

package redis

import (
	"net"
	"syscall"
)

// silent reports whether an idle connection is still open and has nothing to
// say, as one that the server closed would.
func silent(conn net.Conn) bool {
	if layered, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = layered.NetConn()
	}
	own, ok := conn.(syscall.Conn)
	if !ok {
		return true // not to be looked at
	}
	raw, err := own.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
