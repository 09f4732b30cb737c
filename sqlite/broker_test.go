package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
	"github.com/taskgen/taskgen/sqlite"
)

func open(t *testing.T) broker.Broker {
	return openFile(t, filepath.Join(t.TempDir(), "tasks.db"))
}

func openFile(t *testing.T, path string) broker.Broker {
	b, err := sqlite.Open(t.Context(), "file://"+path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(*sqlite.Broker).Close()) })
	return b
}

func TestContract(t *testing.T) { brokertest.Run(t, open) }
