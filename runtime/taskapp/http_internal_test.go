package taskapp

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOnlyLoopbackNeedsNoHTTPAuth tries addresses.
func TestOnlyLoopbackNeedsNoHTTPAuth(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:80": true, "127.9.9.9:80": true, "[::1]:80": true, "[::1%lo]:80": true, "localhost:80": true, "[::ffff:127.0.0.1]:80": true,
		":80": false, "0.0.0.0:80": false, "[::]:80": false, "10.0.0.7:80": false, "[fe80::1%eth0]:80": false, "localhost.example.com:80": false,
	} {
		require.Equal(t, want, isLoopback(address), address)
	}
}
