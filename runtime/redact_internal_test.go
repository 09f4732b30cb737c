package runtime

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNoSecretOfAURLIsShown(t *testing.T) {
	for _, url := range []string{
		"redis://user:hunter2@host/0",
		"redis+sentinel://:hunter2@h:26379?master_name=m&sentinel_password=hunter2",
		"redi:hunter2@host", "postgres:user:hunter2@h", "http://h/?token=hunter2", "redis://user:hunter2%zz@host",
	} {
		require.NotContains(t, redact(url), "hunter2", url)
	}
	require.True(t, strings.HasPrefix(redact("redis://user:x@host:1/0"), "redis://host:1/0"))
}

// TestNoSecretWithoutAScheme: what stands before an @ may be a password.
func TestNoSecretWithoutAScheme(t *testing.T) {
	for _, url := range []string{
		":hunter2@host", ":hunter2@host:6379", "hunter2@host:6379", "user:hunter2@host:6379", "hunter2@host",
		"hunter2/x@host", "//user:hunter2@host:6379", ":hunter2@[::1]:6379", "user:hunter2@host/0", "hunter2@host?x=hunter2",
	} {
		_, err := Open(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", url)
	}
	_, err := Open(t.Context(), ":hunter2@host")
	require.EqualError(t, err, "open broker: there is no scheme; write redis:// before it, as in redis://:password@host")
	_, err = Open(t.Context(), "redis:127.0.0.1:7312")
	require.ErrorContains(t, err, "two slashes and a host have to follow redis:")
}

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
