package brokerurl_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokerurl"
	"github.com/taskgen/taskgen/broker/memory"
)

func TestNoSecretOfAURLIsShown(t *testing.T) {
	for _, url := range []string{
		"redis://user:hunter2@host/0",
		"redis+sentinel://:hunter2@h:26379?master_name=m&sentinel_password=hunter2",
		"redi:hunter2@host", "postgres:user:hunter2@h", "http://h/?token=hunter2", "redis://user:hunter2%zz@host",
	} {
		require.NotContains(t, brokerurl.Redact(url), "hunter2", url)
	}
	require.True(t, strings.HasPrefix(brokerurl.Redact("redis://user:x@host:1/0"), "redis://host:1/0"))
}

// TestNoSecretWithoutAScheme: what stands before an @ may be a password.
func TestNoSecretWithoutAScheme(t *testing.T) {
	for _, url := range []string{
		":hunter2@host", ":hunter2@host:6379", "hunter2@host:6379", "user:hunter2@host:6379", "hunter2@host",
		"hunter2/x@host", "//user:hunter2@host:6379", ":hunter2@[::1]:6379", "user:hunter2@host/0", "hunter2@host?x=hunter2",
	} {
		_, err := brokerurl.Open(t.Context(), url)
		require.Error(t, err)
		require.NotContains(t, err.Error(), "hunter2", url)
	}
	_, err := brokerurl.Open(t.Context(), ":hunter2@host")
	require.EqualError(t, err, "open broker: there is no scheme; write redis:// before it, as in redis://:password@host")
	_, err = brokerurl.Open(t.Context(), "redis:127.0.0.1:7312")
	require.ErrorContains(t, err, "two slashes and a host have to follow redis:")
}

func TestAnEmptyURLIsTheEnvironmentsThenTheDefault(t *testing.T) {
	t.Setenv(brokerurl.Env, "")
	b, err := brokerurl.Open(t.Context(), "")
	require.NoError(t, err)
	require.IsType(t, &memory.Broker{}, b)
	cfg := brokerurl.Config{Default: "redis://default"}
	require.Equal(t, "redis://default", cfg.URL(""))
	require.False(t, cfg.Embedded(""))
	t.Setenv(brokerurl.Env, "MEMORY:")
	require.Equal(t, "MEMORY:", cfg.URL(""))
	require.True(t, cfg.Embedded(""))
	require.Equal(t, "redis://given", cfg.URL("redis://given"))
}

func TestFurtherSchemesComeFirst(t *testing.T) {
	var opened []string
	open := func(_ context.Context, url string) (broker.Broker, error) {
		opened = append(opened, url)
		return memory.New(), nil
	}
	cfg := brokerurl.Config{Openers: map[string]brokerurl.Opener{"file": open, "memory": open}}
	for _, url := range []string{"FILE:tasks.db", "memory:mine"} {
		_, err := cfg.Open(t.Context(), url)
		require.NoError(t, err)
	}
	require.Equal(t, []string{"FILE:tasks.db", "memory:mine"}, opened)
	require.False(t, cfg.Embedded("memory:mine"), "the application's own may be shared")
	_, err := cfg.Open(t.Context(), "ftp://user:secret@example.com")
	require.EqualError(t, err, `open broker "ftp://example.com": unknown scheme; use a memory:, redis:, rediss:, unix:, redis+cluster:, redis+sentinel: or file: URL`)
}
