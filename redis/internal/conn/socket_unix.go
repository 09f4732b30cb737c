//go:build unix

package conn

import (
	"net"
	"syscall"
	"time"
)

// stillOpen reports whether an idle connection is open and has nothing to read, unlike
// one that the server has closed.
func stillOpen(conn net.Conn) bool {
	raw, there, err := rawOf(conn)
	if !there || err != nil {
		return err == nil // no descriptor to look at
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

// spinUntilReadable reports whether a connection has something to read within most. It
// spins on recv and so keeps its processor: a goroutine that parks in the network
// poller has to wait for a free processor too.
func spinUntilReadable(conn net.Conn, most time.Duration) (said bool) {
	raw, there, err := rawOf(conn)
	if !there || err != nil {
		return false
	}
	end := time.Now().Add(most)
	_ = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		for {
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			said = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && err != syscall.EINTR
			if said || time.Now().After(end) {
				return true
			}
		}
	})
	return said
}

// rawOf returns the descriptor of a connection, if it has one.
func rawOf(conn net.Conn) (raw syscall.RawConn, there bool, err error) {
	if layered, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn = layered.NetConn()
	}
	own, ok := conn.(syscall.Conn)
	if !ok {
		return nil, false, nil
	}
	raw, err = own.SyscallConn()
	return raw, true, err
}
