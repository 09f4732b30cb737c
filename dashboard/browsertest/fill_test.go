package browsertest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/desk"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// filled are runs that pages are about.
type filled struct {
	dead    string // failed with an error
	boom    string // panicked: has a stack
	done    string // succeeded with a result
	running string // goes on and says how far it is
	held    string // a limit keeps it back
	delayed string
	group   string // awaits a group that goes on
}

// fill starts a consumer and a scheduler, and has something to show on each page.
func (s *site) fill() filled {
	s.t.Helper()
	s.consume(taskrt.ConsumerConfig{Concurrency: 8, Queues: map[string]int{"guests": 1, "lobby": 1, "letters": 1}})
	s.schedule()
	var f filled
	for n := range 3 {
		f.dead = s.greet("nobody").ID
		s.greet(fmt.Sprint("reader ", n), taskrt.OnQueue("newsletter"))
	}
	f.boom = s.greet("boom").ID
	done := s.greet("ada")
	f.done = done.ID
	require.NoError(s.t, s.look.Pause(s.ctx, "letters"))
	for n := range 3 {
		_, err := desk.QueueLetter(s.ctx, "High Street", n)
		require.NoError(s.t, err)
	}
	h, err := desk.QueueLetter(s.ctx, "High Street", 9, taskrt.Delay(time.Hour))
	require.NoError(s.t, err)
	f.delayed = h.ID
	f.running = s.hold("the lift").ID
	s.hold("the lift")
	s.awaitBroker("two hold the lift", func() bool { return s.queue("lobby").Running == 2 })
	f.held = s.hold("the lift").ID
	group, err := taskrt.Group([]taskrt.Call[int]{
		desk.CallMeasure("some text"), desk.CallMeasure("more text").With(taskrt.Delay(time.Hour)),
	}, desk.NextAddUp("letters in all")).Queue(s.ctx)
	require.NoError(s.t, err)
	f.group = group.ID
	_, err = taskrt.Schedule(s.ctx, "0 9 * * 1-5", "Europe/Rome", desk.CallMeasure("good morning"))
	require.NoError(s.t, err)
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	_, err = done.Wait(ctx)
	require.NoError(s.t, err)
	s.awaitBroker("four dead letters", func() bool { return s.queue("guests").Dead == 4 })
	return f
}

// hold queues a run of Hold.
func (s *site) hold(label string) *taskrt.Handle[taskrt.None] {
	s.t.Helper()
	h, err := desk.QueueDeskHold(s.ctx, label)
	require.NoError(s.t, err)
	return h
}

// awaitBroker waits until something holds of what the broker has.
func (s *site) awaitBroker(what string, holds func() bool) {
	s.t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		if holds() {
			return
		}
	}
	s.t.Fatalf("%s: not within %v", what, patience)
}
