package sqlite

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNetworkFileSystems(t *testing.T) {
	require.Equal(t, "NFS", networkFileSystem(0x6969))
	require.Equal(t, "SMB", networkFileSystem(0xff534d42))
	require.Empty(t, networkFileSystem(0xef53), "ext4")
	require.Empty(t, networkFileSystem(0x01021994), "tmpfs")
}
