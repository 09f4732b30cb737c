package conn

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/taskgen/taskgen/redis/internal/resp"
)

// A server that has too many clients, or accepts none from elsewhere, says so by itself
// and closes the connection. What was sent meanwhile breaks it, and the client library
// reports that instead.

// refusals are the beginnings of such replies.
var refusals = [][]byte{[]byte("-ERR max number of clients"), []byte("-DENIED ")}

// refusableConn is a connection that fails with the server's own refusal, if there was
// one.
type refusableConn struct {
	net.Conn
	heard   atomic.Bool // the server has replied
	refused atomic.Pointer[resp.Error]
}

// refusableRawConn is a refusableConn with a descriptor.
type refusableRawConn struct{ *refusableConn }

// SyscallConn returns that of the connection below.
func (c refusableRawConn) SyscallConn() (syscall.RawConn, error) {
	if refused := c.refused.Load(); refused != nil {
		return nil, *refused
	}
	return c.Conn.(syscall.Conn).SyscallConn()
}

// watchRefusal wraps a connection that was just dialed.
func watchRefusal(conn net.Conn) net.Conn {
	c := &refusableConn{Conn: conn}
	if _, ok := conn.(syscall.Conn); ok {
		return refusableRawConn{c}
	}
	return c
}

// unwrap returns the connection below, once the handshake is over.
func unwrap(conn net.Conn) net.Conn {
	switch c := conn.(type) {
	case refusableRawConn:
		return c.Conn
	case *refusableConn:
		return c.Conn
	}
	return conn
}

func (c *refusableConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
		c.note(b[:n]) // go-redis takes these for the reply to its HELLO, and goes on
	}
	return n, c.after(err)
}

func (c *refusableConn) Write(b []byte) (int, error) {
	if refused := c.refused.Load(); refused != nil {
		return 0, *refused
	}
	n, err := c.Conn.Write(b)
	if err == nil || c.heard.Load() {
		return n, err
	}
	if late := net.Error(nil); errors.As(err, &late) && late.Timeout() {
		return n, err
	}
	words := make([]byte, 512) // the server has closed: these bytes are its last
	if m, _ := c.Conn.Read(words); c.note(words[:m]) {
		return 0, *c.refused.Load()
	}
	return n, err
}

// note keeps the server's first bytes if they are a refusal, and reports whether they
// are.
func (c *refusableConn) note(words []byte) bool {
	for _, opens := range refusals {
		if bytes.HasPrefix(words, opens) {
			line, _, _ := bytes.Cut(words[1:], []byte("\r\n"))
			refused := resp.Error(line)
			c.refused.Store(&refused)
			return true
		}
	}
	return false
}

func (c *refusableConn) SetDeadline(at time.Time) error {
	return c.after(c.Conn.SetDeadline(at))
}

func (c *refusableConn) SetReadDeadline(at time.Time) error {
	return c.after(c.Conn.SetReadDeadline(at))
}

func (c *refusableConn) SetWriteDeadline(at time.Time) error {
	return c.after(c.Conn.SetWriteDeadline(at))
}

func (c *refusableConn) after(err error) error {
	if refused := c.refused.Load(); err != nil && refused != nil {
		return *refused
	}
	return err
}
