package brokertest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

var instanceChecks = []check{
	{"an instance that announced itself is listed as it is now", instanceListed},
	{"instances are sorted by host, process and id", instancesSorted},
	{"an instance that was withdrawn is gone", instanceWithdrawn},
	{"what an instance says of itself is bounded", instanceBounded},
	{"a hundred instances announce themselves at once", instancesMany},
}

func (f *fixture) instances() []*broker.Instance {
	f.Helper()
	list, err := f.b.(broker.Instances).Instances(f.ctx())
	require.NoError(f, err, "Instances")
	return list
}

func (f *fixture) announce(i *broker.Instance) {
	f.Helper()
	require.NoError(f, f.b.(broker.Instances).Announce(f.ctx(), i), "Announce of %s", i.ID)
}

func newInstance(id string) *broker.Instance {
	return &broker.Instance{
		ID: id, Role: broker.RoleConsumer, Host: "host", PID: 4711, Version: "v1.2.3", Started: time.Unix(1_700_000_000, 5).UTC(),
		Queues: map[string]int{"default": 3, "critical": 6}, More: 2, Address: "10.0.0.7:8080", Scraped: time.Unix(1_700_000_100, 7).UTC(),
		Session: "session", Slots: [2]broker.Slots{{Total: 10, Busy: 4}, {Total: 2, Busy: 1}}, Children: 2,
	}
}

// requireInstance checks a listed instance, which announced itself after an instant.
func (f *fixture) requireInstance(want, got *broker.Instance, after time.Time) {
	f.Helper()
	f.requireBetween(after, got.Seen, "when an instance was seen")
	w, g := *want, *got
	w.Seen, g.Seen = time.Time{}, time.Time{}
	if len(w.Queues) == 0 {
		w.Queues = nil
	}
	if len(g.Queues) == 0 {
		g.Queues = nil
	}
	require.Equal(f, w, g, "instance %s", want.ID)
}

func instanceListed(f *fixture) {
	require.Empty(f, f.instances(), "instances before any announced itself")
	start := time.Now()
	first := newInstance("one")
	f.announce(first)
	scheduler := &broker.Instance{ID: "two", Role: broker.RoleScheduler, Host: "host", PID: 4712}
	f.announce(scheduler)
	list := f.instances()
	require.Len(f, list, 2, "instances")
	f.requireInstance(first, list[0], start)
	f.requireInstance(scheduler, list[1], start)

	first.Queues["default"] = 100 // the broker has its own
	f.requireInstance(newInstance("one"), f.instances()[0], start)
	list[0].Queues["default"] = 100 // and so has the caller
	f.requireInstance(newInstance("one"), f.instances()[0], start)

	f.pass(2 * slack)
	again := time.Now()
	first = newInstance("one")
	first.Stopping, first.Session, first.Slots[0].Busy, first.Queues = true, "", 0, map[string]int{"other": 1}
	f.announce(first)
	list = f.instances()
	require.Len(f, list, 2, "instances after one announced itself again")
	f.requireInstance(first, list[0], again)
	require.Less(f, list[1].Seen, again, "when the other was seen")
}

func instancesSorted(f *fixture) {
	var want []string
	for _, host := range []string{"a", "b", "b2"} {
		for _, pid := range []int{9, 10, 100} {
			for _, id := range []string{"x", "y"} {
				want = append(want, fmt.Sprintf("%s-%s-%d", id, host, pid))
			}
		}
	}
	for i := range want { // in another order
		id := want[(i*7)%len(want)]
		parts := strings.Split(id, "-")
		n := newInstance(id)
		n.Host = parts[1]
		_, err := fmt.Sscan(parts[2], &n.PID)
		require.NoError(f, err)
		f.announce(n)
	}
	var got []string
	for _, i := range f.instances() {
		got = append(got, i.ID)
	}
	require.Equal(f, want, got, "instances")
}

func instanceWithdrawn(f *fixture) {
	b := f.b.(broker.Instances)
	require.NoError(f, b.Withdraw(f.ctx(), "unknown"), "Withdraw of an unknown instance")
	f.announce(newInstance("one"))
	f.announce(newInstance("two"))
	for range 2 {
		require.NoError(f, b.Withdraw(f.ctx(), "one"), "Withdraw")
		list := f.instances()
		require.Len(f, list, 1, "instances after one was withdrawn")
		require.Equal(f, "two", list[0].ID, "the other one")
	}
	f.announce(newInstance("one"))
	require.Len(f, f.instances(), 2, "instances after one that was withdrawn is there again")
}

func instanceBounded(f *fixture) {
	start := time.Now()
	long := newInstance("long")
	long.Host, long.Version, long.Address, long.Session = strings.Repeat("é", 500), strings.Repeat("v", 500), strings.Repeat("a", 500), strings.Repeat("s", 500)
	for i := range broker.MaxInstanceQueues + 10 {
		long.Queues[fmt.Sprint("q", i)] = 1
	}
	long.Queues["no\nname"], long.PID, long.Children = 1, -1, -1
	long.Started = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	long.Scraped = long.Started
	want, err := long.Bounded()
	require.NoError(f, err)
	require.Len(f, want.Queues, broker.MaxInstanceQueues, "queues of an instance")
	f.announce(long)
	f.requireInstance(want, f.instances()[0], start)

	for what, i := range map[string]*broker.Instance{
		"without id":   {Role: broker.RoleConsumer},
		"with odd id":  {ID: "a\nb", Role: broker.RoleConsumer},
		"with long id": {ID: strings.Repeat("x", broker.MaxID+1), Role: broker.RoleConsumer},
		"without role": {ID: "id"},
		"of odd role":  {ID: "id", Role: "odd"},
	} {
		require.Error(f, f.b.(broker.Instances).Announce(f.ctx(), i), "Announce of an instance %s", what)
	}
	require.Len(f, f.instances(), 1, "instances after some were refused")
	require.ErrorIs(f, f.b.(broker.Instances).Announce(f.ended(), newInstance("two")), context.Canceled, "Announce with an ended context")
	_, err = f.b.(broker.Instances).Instances(f.ended())
	require.ErrorIs(f, err, context.Canceled, "Instances with an ended context")
}

func instancesMany(f *fixture) {
	const n = 100
	f.each(n, func(i int) error {
		return f.b.(broker.Instances).Announce(f.ctx(), newInstance(fmt.Sprintf("i-%03d", i)))
	})
	list := f.instances()
	require.Len(f, list, n, "instances")
	for i, in := range list {
		require.Equal(f, fmt.Sprintf("i-%03d", i), in.ID, "instance %d", i)
	}
}
