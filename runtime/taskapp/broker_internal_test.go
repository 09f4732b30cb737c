package taskapp

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
)

// TestUncheckedCertificatesAreWarnedOf, but not others.
func TestUncheckedCertificatesAreWarnedOf(t *testing.T) {
	for url, want := range map[string]bool{
		"rediss://h?skip_verify=true": true, "rediss+cluster://h?skip_verify=1": true,
		"rediss://h": false, "rediss://h?skip_verify=false": false, "redis://h?skip_verify=true": false, "memory:": false,
	} {
		var log strings.Builder
		warnIfUnverified(url, slog.New(slog.NewTextHandler(&log, nil)))
		require.Equal(t, want, strings.Contains(log.String(), "certificate is not checked"), url)
	}
}

func TestAServersRisksAreLogged(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "no")
	b, err := redis.Open(t.Context(), server.URL(), redis.Config{})
	require.NoError(t, err)
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	durability := warnOfRisks(context.Background(), b, logger)
	require.Contains(t, durability, "noeviction")
	require.Contains(t, log.String(), `"durability":"`+durability+`"`)

	require.NoError(t, b.Close())
	log.Reset()
	require.Empty(t, warnOfRisks(context.Background(), b, logger))
	require.Contains(t, log.String(), "cannot tell how safe")
	require.Contains(t, log.String(), "closed")
}
