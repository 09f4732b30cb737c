package taskapp

import (
	"encoding/json"
	"strings"
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

// TestALimitIsNamedByItsTask and by the values that it depends on, or by their digest.
func TestALimitIsNamedByItsTask(t *testing.T) {
	key := "mail/rate/" + strings.Repeat("d", 22)
	for want, l := range map[string]limitView{
		"other":                                {Key: "other"},
		"mail":                                 {Key: "mail/rate", Task: "mail"},
		`mail "acme", 3`:                       {Key: key, Task: "mail", Values: []json.RawMessage{json.RawMessage(`"acme"`), json.RawMessage("3")}, digest: strings.Repeat("d", 22)},
		"mail (digest dddddddddddddddddddddd)": {Key: key, Task: "mail", digest: strings.Repeat("d", 22)},
		`mail "` + strings.Repeat("x", 54) + "… (truncated)": {Key: key, Task: "mail", Values: []json.RawMessage{json.RawMessage(`"` + strings.Repeat("x", 99) + `"`)}, digest: "d"},
	} {
		var b strings.Builder
		printLimits(&b, &statusView{Queues: []queueView{{Queue: "q", Limits: []limitView{l}}}})
		lines := strings.Split(b.String(), "\n")
		require.Equal(t, "HELD BACK BY\tQUEUE\tLIMIT\tUSED\tWAITING", lines[1])
		require.True(t, strings.HasPrefix(lines[2], want+"\tq\t"), lines[2])
	}
}
