package taskapp

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSpansAreForPeople(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "<1ms"}, {1500 * time.Microsecond, "1ms"}, {999 * time.Millisecond, "999ms"}, {time.Second, "1s"},
		{2390 * time.Millisecond, "2.3s"}, {59600 * time.Millisecond, "60s"}, {2*time.Minute - 1, "120s"}, {150 * time.Second, "3m"},
		{119 * time.Minute, "119m"}, {3*time.Hour - time.Second, "3h"}, {47 * time.Hour, "47h"}, {50 * time.Hour, "2d"}, {240 * time.Hour, "10d"},
	} {
		require.Equal(t, c.want, span(c.d), c.d)
	}
}
