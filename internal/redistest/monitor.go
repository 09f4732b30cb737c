package redistest

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

// SentCommands counts the commands that clients send to a server while f runs, without those of
// scripts.
func SentCommands(t testing.TB, server *Server, f func()) (n int) {
	t.Helper()
	const end = "that was all"
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatalf("connect to %s: %v", server.Addr(), err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatalf("send MONITOR: %v", err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<24)
	if !lines.Scan() {
		t.Fatalf("read the reply to MONITOR: %v", lines.Err())
	}
	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for lines.Scan() && !strings.Contains(lines.Text(), end) {
			if !strings.Contains(lines.Text(), " lua]") {
				n++
			}
		}
	}()
	f()
	if _, err := server.Do("ECHO", end); err != nil {
		t.Fatalf("send ECHO: %v", err)
	}
	<-counted
	return n
}
