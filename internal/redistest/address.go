package redistest

import (
	"io"
	"net"
	"sync"
	"testing"
)

// Address is an address that moves between servers, like that of a managed Redis at a
// failover. Its methods may be called concurrently.
type Address struct {
	listener net.Listener
	all      sync.WaitGroup

	mu     sync.Mutex
	server *Server
	conns  map[net.Conn]bool
	closed bool
}

// StartAddress returns an address that leads to server and ends with the test.
func StartAddress(t testing.TB, server *Server) *Address {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for the address of a server: %v", err)
	}
	a := &Address{listener: listener, server: server, conns: map[net.Conn]bool{}}
	a.all.Go(a.accept)
	t.Cleanup(a.close)
	return a
}

// URL returns the address as a broker's URL.
func (a *Address) URL() string { return "redis://" + a.listener.Addr().String() }

// MoveTo closes all connections and leads new ones to another server.
func (a *Address) MoveTo(server *Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.server = server
	a.cut()
}

func (a *Address) cut() {
	for conn := range a.conns {
		_ = conn.Close()
	}
	clear(a.conns)
}

func (a *Address) close() {
	_ = a.listener.Close()
	a.mu.Lock()
	a.closed = true
	a.cut()
	a.mu.Unlock()
	a.all.Wait()
}

func (a *Address) accept() {
	for {
		client, err := a.listener.Accept()
		if err != nil {
			return
		}
		a.all.Go(func() { a.lead(client) })
	}
}

// lead copies bytes both ways until either end closes.
func (a *Address) lead(client net.Conn) {
	defer client.Close()
	a.mu.Lock()
	addr := a.server.Addr()
	a.mu.Unlock()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	a.mu.Lock()
	if a.closed || a.server.Addr() != addr {
		a.mu.Unlock()
		return
	}
	a.conns[client], a.conns[server] = true, true
	a.mu.Unlock()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
	_ = server.Close()
	back.Wait()
	a.mu.Lock()
	delete(a.conns, client)
	delete(a.conns, server)
	a.mu.Unlock()
}
