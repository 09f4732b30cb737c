package broker_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func TestInstancesAreBounded(t *testing.T) {
	long := strings.Repeat("é", 1000)
	i := &broker.Instance{
		ID: "id", Role: broker.RoleConsumer, Host: long, Version: long, Address: long, Session: long, PID: -1, More: 5, Children: -1,
		Started: time.Unix(-1, 0), Slots: [2]broker.Slots{{Total: -1, Busy: 3}}, Queues: map[string]int{"": 1, "no name": 2},
	}
	for n := range broker.MaxInstanceQueues + 10 {
		i.Queues[fmt.Sprintf("q%04d", n)] = n
	}
	c, err := i.Bounded()
	require.NoError(t, err)
	require.LessOrEqual(t, len(c.Host), broker.MaxHost)
	require.LessOrEqual(t, len(c.Version), broker.MaxHost)
	require.LessOrEqual(t, len(c.Address), broker.MaxHost)
	require.LessOrEqual(t, len(c.Session), broker.MaxID)
	require.Zero(t, c.PID)
	require.Zero(t, c.Children)
	require.Zero(t, c.Started)
	require.Equal(t, broker.Slots{Busy: 3}, c.Slots[0])
	require.Len(t, c.Queues, broker.MaxInstanceQueues)
	require.Equal(t, 999, c.Queues["q0999"])
	require.Equal(t, 5+10+2, c.More)
	require.Len(t, i.Queues, broker.MaxInstanceQueues+12, "the queues of the original")

	again, err := c.Bounded()
	require.NoError(t, err)
	require.Equal(t, c, again)

	for name, bad := range map[string]broker.Instance{
		"no id":        {Role: broker.RoleConsumer},
		"a long id":    {ID: strings.Repeat("x", broker.MaxID+1), Role: broker.RoleConsumer},
		"an odd id":    {ID: "two words", Role: broker.RoleConsumer},
		"another role": {ID: "id", Role: "cook"},
	} {
		_, err := bad.Bounded()
		require.Error(t, err, name)
	}
}
