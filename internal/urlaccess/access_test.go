package urlaccess_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/urlaccess"
)

func TestShares(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, broker string
		want         bool
	}{
		{"redis://:pw@host:6379/0", "redis://:pw@host:6379/0", true},
		{"redis://:pw@host:6379/0", "redis://:pw@host:6379/0?prefix=app", true},
		{"rediss://user:pw@HOST/3", "redis://:pw@host:6379/0?prefix=app", true},
		{"redis://:pw@other", "redis+cluster://:pw@host:7000?addr=host:7001", true},
		{"redis://:other@host:6379/0", "redis://:pw@host:6379/0", false},
		{"redis://host:6379/0", "redis://:pw@host:6379/0", false},
		{"redis://:pw@host:6379/0", "redis://host:6379/0", false},
		{"https://user:pw@host", "redis://:pw@host", false},
		{"redis://host", "redis://host:6379/0?prefix=app", true},
		{"redis://host/1", "redis://host/0", false},
		{"redis://host:7001", "redis+cluster://host:7000?addr=host:7001", true},
		{"redis://[::1]", "redis://[::1]:6379", true},
		{"redis://other", "redis://host", false},
		{"unix:///run/a.sock?db=0", "unix:///run/a.sock?prefix=app", true},
		{"unix:///run/a.sock", "unix:///run/b.sock", false},
		{"redis://localhost/0", "redis://127.0.0.1:6379", true},
		{"redis://[::1]:7000", "redis://localhost:7000", true},
		{"redis://localhosts", "redis://127.0.0.1", false},
		{"redis://host?password=s3cret", "redis://:s3cret@host", true},
		{"redis-cli -u redis://:s3cret@host --scan", "redis://:s3cret@host", true},
		{`{"cache": "rediss://u:p%40ss%2Fword@h"}`, "redis://:p%40ss%2Fword@host", true},
		{"REDIS redis://:p@ss/word@host", "redis://:p%40ss%2Fword@host", true},
		{"unix:///run/a.sock?password=s3cret", "unix://:s3cret@/run/a.sock", true},
		{"s3cret", "redis://:s3cret@host", false},
		{"postgres://u:s3cret@db/app", "postgres://u:s3cret@db/app", true},
		{"postgres://u:s3cret@db/app", "postgres://u:s3cret@db/app?schema=tasks", true},
		{"POSTGRES://u:s3cret@other/app", "postgres://u:s3cret@db/app", true},
		{"postgresql://u:p%40ss%2Fword@db/app", "pg://u:p%40ss%2Fword@db/app", true},
		{`{"pool": "postgres://u:s3cret@db"}`, "postgres://u:s3cret@db/app", true},
		{"postgres://u:pw@db/a", "postgres://u:pw@db/b", true},
		{"postgres://u:other@db/app", "postgres://u:s3cret@db/app", false},
		{"https://u:s3cret@web", "postgres://u:s3cret@db/app", false},
		{"redis://:s3cret@cache", "postgres://u:s3cret@db/app", false},
		{"postgres://db/app?sslmode=off", "postgres://DB/app", true},
		{"postgres://db/app", "postgres://db/other", false},
		{"mysql://db/app", "postgres://db/app", false},
		{"the redis of the swarm", "redis://:war@host", false},
		{"second", "second", false},
		{"", "", false},
		{"memory:", "memory:", false},
		{"%", "redis://%", false},
	} {
		require.Equal(t, c.want, urlaccess.Shares(c.text, c.broker), "%q and %q", c.text, c.broker)
	}
}
