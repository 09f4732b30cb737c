package runtime

import (
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
