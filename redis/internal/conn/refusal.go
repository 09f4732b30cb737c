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

// greetings open such words.
var greetings = [][]byte{[]byte("-ERR max number of clients"), []byte("-DENIED ")}

// greeted is a connection whose use fails with the words by which the server refused it.
type greeted struct {
	net.Conn
	heard   atomic.Bool // the server has said something
	refused atomic.Pointer[resp.Error]
}

// greetedRaw is one with a descriptor.
type greetedRaw struct{ *greeted }

// SyscallConn is that of the connection below.
func (c greetedRaw) SyscallConn() (syscall.RawConn, error) {
	if refused := c.refused.Load(); refused != nil {
		return nil, *refused
	}
	return c.Conn.(syscall.Conn).SyscallConn()
}

// listenTo makes a connection that was just dialed such a one.
func listenTo(conn net.Conn) net.Conn {
	c := &greeted{Conn: conn}
	if _, ok := conn.(syscall.Conn); ok {
		return greetedRaw{c}
	}
	return c
}

// plainConn returns the connection below, once it is known to be of use.
func plainConn(conn net.Conn) net.Conn {
	switch c := conn.(type) {
	case greetedRaw:
		return c.Conn
	case *greeted:
		return c.Conn
	}
	return conn
}

func (c *greeted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.heard.Load() {
		c.heard.Store(true)
		c.note(b[:n]) // the library has these for the reply to its hello, and goes on
	}
	return n, c.after(err)
}

func (c *greeted) Write(b []byte) (int, error) {
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
	words := make([]byte, 512) // it is closed, and has these or none
	if m, _ := c.Conn.Read(words); c.note(words[:m]) {
		return 0, *c.refused.Load()
	}
	return n, err
}

// note reports whether the server's first words are a refusal.
func (c *greeted) note(words []byte) bool {
	for _, opens := range greetings {
		if bytes.HasPrefix(words, opens) {
			line, _, _ := bytes.Cut(words[1:], []byte("\r\n"))
			refused := resp.Error(line)
			c.refused.Store(&refused)
			return true
		}
	}
	return false
}

func (c *greeted) SetDeadline(at time.Time) error {
	return c.after(c.Conn.SetDeadline(at))
}

func (c *greeted) SetReadDeadline(at time.Time) error {
	return c.after(c.Conn.SetReadDeadline(at))
}

func (c *greeted) SetWriteDeadline(at time.Time) error {
	return c.after(c.Conn.SetWriteDeadline(at))
}

func (c *greeted) after(err error) error {
	if refused := c.refused.Load(); err != nil && refused != nil {
		return *refused
	}
	return err
}
