package taskapp

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/fleet"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestScaleWantsASlotForEachRunThatCouldStart tries loads and fleets.
func TestScaleWantsASlotForEachRunThatCouldStart(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	consumer := func(queue string, io, cpu int) *broker.Instance {
		return &broker.Instance{Role: broker.RoleConsumer, Queues: map[string]int{queue: 1}, Slots: [2]broker.Slots{{Total: io}, {Total: cpu}}}
	}
	stopping := consumer("a", 100, 100)
	stopping.Stopping = true
	scheduler := &broker.Instance{Role: broker.RoleScheduler, Queues: map[string]int{"a": 1}}
	many := consumer("other", 40, 2)
	many.More = 1 // not all of its queues are stored
	two := []*broker.Instance{consumer("a", 20, 2), many, consumer("b", 7, 7), stopping, scheduler}
	for name, c := range map[string]struct {
		info      broker.QueueInfo
		instances []*broker.Instance
		slots     int64
		want      scaleView
	}{
		"nothing to do":                    {broker.QueueInfo{Delayed: 5, Dead: 7}, two, 0, scaleView{Delayed: 5, Dead: 7, Consumers: 2, Slots: 60, Want: 0}},
		"one run":                          {broker.QueueInfo{Queued: 1}, two, 0, scaleView{Queued: 1, Consumers: 2, Slots: 60, Want: 1}},
		"as many as slots":                 {broker.QueueInfo{Queued: 20, Running: 40}, two, 0, scaleView{Queued: 20, Running: 40, Consumers: 2, Slots: 60, Want: 2}},
		"one more than slots":              {broker.QueueInfo{Queued: 21, Running: 40}, two, 0, scaleView{Queued: 21, Running: 40, Consumers: 2, Slots: 60, Want: 3}},
		"held back by a limit":             {broker.QueueInfo{Queued: 1000, Held: 990, Running: 5}, two, 0, scaleView{Queued: 10, Held: 990, Running: 5, Consumers: 2, Slots: 60, Want: 1}},
		"all held back":                    {broker.QueueInfo{Queued: 1000, Held: 1000}, two, 0, scaleView{Held: 1000, Consumers: 2, Slots: 60, Want: 0}},
		"the last are stopping":            {broker.QueueInfo{Running: 30}, two[3:], 0, scaleView{Running: 30, Want: 1}},
		"none is up":                       {broker.QueueInfo{Queued: 1000}, nil, 0, scaleView{Queued: 1000, Want: 1}},
		"none is up, and slots are given":  {broker.QueueInfo{Queued: 1000}, nil, 30, scaleView{Queued: 1000, Want: 34}},
		"slots are given":                  {broker.QueueInfo{Queued: 1000}, two, 100, scaleView{Queued: 1000, Consumers: 2, Slots: 60, Want: 10}},
		"some were delayed":                {broker.QueueInfo{Queued: 9, Held: 2, DelayedDue: 4}, two, 0, scaleView{Queued: 7, DelayedDue: 4, Held: 2, Consumers: 2, Slots: 60, Want: 1}},
		"the oldest has waited":            {broker.QueueInfo{Queued: 1, Oldest: now.Add(-90 * time.Second)}, two, 0, scaleView{Queued: 1, OldestSeconds: 90, Consumers: 2, Slots: 60, Want: 1}},
		"the clock is behind the oldest":   {broker.QueueInfo{Queued: 1, Oldest: now.Add(time.Second)}, two, 0, scaleView{Queued: 1, Consumers: 2, Slots: 60, Want: 1}},
		"more is held than a reply can be": {broker.QueueInfo{Queued: 1, Held: 2}, two, 0, scaleView{Held: 1, Consumers: 2, Slots: 60, Want: 0}},
	} {
		t.Run(name, func(t *testing.T) {
			c.info.Queue = "a"
			s := &Serving{Tasks: []taskrt.Task{ioTask("a")}}
			f := &fleet.Fleet{Queues: []*broker.QueueInfo{&c.info, {Queue: "b", Queued: 7}}, Instances: c.instances, Time: now}
			view, unknown := s.scale(f, []string{"a"}, c.slots)
			require.Empty(t, unknown)
			require.Equal(t, c.want, view)
			_, unknown = s.scale(f, []string{"a", "nowhere"}, 0)
			require.Equal(t, "nowhere", unknown)
			both, _ := s.scale(f, []string{"a", "b"}, 0)
			require.Equal(t, c.want.Queued+7, both.Queued)
		})
	}
}

// TestScaleKnowsQueuesBesideOneThatCannotBeRead asks for both.
func TestScaleKnowsQueuesBesideOneThatCannotBeRead(t *testing.T) {
	f := &fleet.Fleet{Queues: []*broker.QueueInfo{{Queue: "a"}, {Queue: "odd"}}, Err: errors.New("wrong type"), Unread: []string{"odd"}}
	require.True(t, known(f, []string{"a"}))
	require.False(t, known(f, []string{"a", "odd"}))
	f.Unread = nil
	require.False(t, known(f, []string{"a"}), "nobody knows what could not be read")
}

// ioTask returns a task that nothing calls.
func ioTask(queue string) taskrt.Task {
	d := &taskrt.Definition[struct{}, taskrt.None]{Spec: taskrt.Spec{Name: "t", Queue: queue}}
	return taskrt.Bind(d, nil)
}
