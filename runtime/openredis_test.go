package runtime_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/internal/redistest"
)

func openRedis(t *testing.T, s *redistest.Server) broker.Broker {
	t.Helper()
	b, err := brokerurl.Open(t.Context(), s.URL())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.(interface{ Close() error }).Close()) })
	return b
}
