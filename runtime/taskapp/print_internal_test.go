package taskapp

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	taskrt "github.com/taskgen/taskgen/runtime"
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

// TestThoseThatStayedAreGroupedByTheReason has more of them than are listed.
func TestThoseThatStayedAreGroupedByTheReason(t *testing.T) {
	const moved, ended, missing = "it was taken or changed meanwhile", "it ended meanwhile", "no run has this id"
	r := &taskrt.ChangeResult{Changes: taskrt.Changes{Changed: 7, Stayed: 4013, Reasons: []taskrt.StayReason{{Why: moved, Count: 4000}, {Why: ended, Count: 2}, {Why: "a", Count: 1}}}, Missing: []string{"m"}}
	for i := range 100 {
		r.Stays = append(r.Stays, taskrt.Stay{Queue: "q", ID: fmt.Sprint(i), Why: moved})
	}
	r.Stays[1].Why, r.Stays[3].Why = ended, ended
	var b strings.Builder
	newChangeView(&changeKind{key: "cancelled", why: missing}, r, false).printStays(&b)
	require.Equal(t, "  4000: it was taken or changed meanwhile, such as 0 (queue q), 2 (queue q), 4 (queue q)\n"+
		"  2: it ended meanwhile: 1 (queue q), 3 (queue q)\n  1: a\n  m: no run has this id\n  and 10 more\n", b.String())
}
