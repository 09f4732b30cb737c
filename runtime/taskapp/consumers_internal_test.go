package taskapp

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func TestAnInstanceNamesFewQueuesAndWhetherItIsSilent(t *testing.T) {
	queues := map[string]int{}
	for i := range 10 {
		queues[fmt.Sprintf("q%d", i)] = i
	}
	v := newInstanceView(&broker.Instance{Role: broker.RoleConsumer, Queues: queues, More: 400, Seen: time.Now()})
	require.Equal(t, "q0, q1, q2=2, q3=3, q4=4, q5=5, q6=6, q7=7 and 402 more\t-", v.end())
	v = newInstanceView(&broker.Instance{Queues: map[string]int{"mail": 1}, Seen: time.Now().Add(-broker.InstanceKept / 2)})
	require.Equal(t, "mail\tSILENT: it may have died", v.end())
	v.Stopping = true
	require.Equal(t, "mail\tstopping", v.end())
}
