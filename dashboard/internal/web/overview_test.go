package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestTheOverviewSaysWhatNeedsAttention has a queue that nobody takes from, one that is paused,
// and runs that died lately.
func TestTheOverviewSaysWhatNeedsAttention(t *testing.T) {
	b := newBroker(t)
	text := readable(get(t, newSite(t, b), "", http.StatusOK))
	require.Contains(t, text, "Nothing was queued yet")
	require.Contains(t, text, "shop serve")

	ctx := t.Context()
	require.NoError(t, b.Announce(ctx, &broker.Instance{ID: "c", Role: broker.RoleConsumer, Host: "worker-1", PID: 7, Version: "v1.2.3", Started: time.Now(), Queues: map[string]int{"paused": 1, "fine": 6}, Slots: [2]broker.Slots{{Total: 4, Busy: 1}, {Total: 2, Busy: 2}}, Children: 2}))
	require.NoError(t, b.QueueTasks(ctx, newRun("1", "send", "alone")))
	require.NoError(t, b.QueueTasks(ctx, newRun("2", "send", "paused")))
	require.NoError(t, b.Pause(ctx, "paused", true))
	kill(t, b, newRun("3", "send", "fine"), broker.FailureTimeout, "it took too long")
	tally := broker.Tally{Queue: "fine", Task: "send", Minute: time.Now().Add(-2 * time.Minute), Succeeded: 1200, Dead: 3}
	tally.Times.Observe(time.Second)
	require.NoError(t, b.AddTallies(ctx, []broker.Tally{tally}))

	h := newSite(t, b)
	text = readable(get(t, h, "", http.StatusOK))
	for _, want := range []string{
		"no consumer queue alone 1 run waits, and no consumer takes from it.",
		"paused queue paused 1 due run waits until it is resumed.",
		"failing 3 dead letters In the last 15 minutes 3 runs became dead letters, and 1,200 runs succeeded.",
		"timeout it took too long", "Consumers 1", "1,200 succeeded, 3 failed attempts", "0.2 % of all",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "Nothing does")
	text = readable(get(t, h, "consumers", http.StatusOK))
	require.Contains(t, text, "worker-1:7 up consumer 1 of 4 io 2 of 2 cpu 2 v1.2.3")
	require.Contains(t, text, "fine ×6 , paused")
	require.Contains(t, text, "None is up here: no tick is queued until one is.")
	require.Contains(t, readable(get(t, h, "consumers?queue=alone", http.StatusOK)), "Nobody serves queue alone")
}

// TestAQueueIsShownAndPaused pauses one with a limit that holds runs back.
func TestAQueueIsShownAndPaused(t *testing.T) {
	b := newBroker(t)
	for n := range 3 {
		run := newRun(fmt.Sprint("run-", n), "charge", "payments")
		run.Rules = &broker.Rules{Limits: []broker.Limit{{Key: "charge/running", Max: 1}}}
		require.NoError(t, b.QueueTasks(t.Context(), run))
	}
	s, err := b.OpenSession(t.Context(), time.Minute)
	require.NoError(t, err)
	runs, err := s.Take(t.Context(), broker.Want{Queues: []string{"payments"}, IO: 10})
	require.NoError(t, err)
	require.Len(t, runs, 1)
	h := newSite(t, b)
	text := readable(get(t, h, "queue?name=payments", http.StatusOK))
	for _, want := range []string{"payments no consumer Runs Pause", "Running 1 Queued 2 Held back 2", "1 at once 1 of 1 2", "No consumer that is up takes from this queue"} {
		require.Contains(t, text, want)
	}
	back := post(t, h, http.StatusSeeOther, url.Values{"do": {"pause"}, "queue": {"payments"}, "back": {"queue?name=payments"}})
	text = readable(get(t, h, back, http.StatusOK))
	require.Contains(t, text, "The queue is paused: consumers take no more runs of it.")
	require.Contains(t, text, "Resume")
	info, err := b.Queue(t.Context(), "payments")
	require.NoError(t, err)
	require.True(t, info.Paused)
	post(t, h, http.StatusSeeOther, url.Values{"do": {"resume"}, "queue": {"payments"}})
	require.NotContains(t, readable(get(t, h, "queue?name=payments", http.StatusOK)), "The queue is paused")
	post(t, h, http.StatusBadRequest, url.Values{"do": {"pause"}})
	require.NoError(t, s.Close(t.Context()))
}

// TestChartsDrawWhatWasCounted has counts in three of sixty columns.
func TestChartsDrawWhatWasCounted(t *testing.T) {
	from := time.Date(2026, 5, 17, 8, 0, 0, 0, time.UTC)
	tallies := make([]broker.Tally, 5)
	for i, minute := range []int{0, 1, 59, 60, -1} { // the last two are outside
		tallies[i] = broker.Tally{Queue: "q", Task: "t", Minute: from.Add(time.Duration(minute) * time.Minute), Succeeded: 30, Retried: 10}
		for range 40 {
			tallies[i].Times.Observe(100 * time.Millisecond)
		}
	}
	b := bucket(tallies, from, time.Minute, nil)
	require.EqualValues(t, 90, b.sum.Succeeded)
	charts := b.charts()
	require.Equal(t, "90 succeeded, 30 failed attempts", charts[0].Sum)
	require.Equal(t, "40 per minute", charts[0].Top)
	require.Equal(t, "M1 100V25h8V100zM11 100V25h8V100zM591 100V25h8V100z", charts[0].Bars[0].Path)
	require.Equal(t, "M1 25V0h8V25zM11 25V0h8V25zM591 25V0h8V25z", charts[0].Bars[1].Path)
	require.Equal(t, []string{"08:00", "08:20", "08:40", "09:00"}, charts[0].Axis)
	require.Equal(t, "08:01 UTC: 30 per minute succeeded, 10 failed", charts[0].Hits[1].Text)
	require.Equal(t, "25 % of all", charts[1].Sum)
	require.Contains(t, charts[2].Lines[1].Path, "M5 ")
	require.Contains(t, charts[2].Lines[1].Path, "M592 ") // alone, it is a dash
	require.True(t, charts[3].Empty)
	require.Zero(t, bucket(tallies, from, time.Minute, func(t *broker.Tally) bool { return t.Task == "other" }).sum.Succeeded)
}

// uncounted is a broker whose counts cannot be read.
type uncounted struct{ *away }

func (u *uncounted) Tallies(_ context.Context, _ []string, _, _ time.Time) ([]broker.Tally, error) {
	return nil, errors.New("tallies are odd")
}

// TestAPageIsShownWithoutCharts if the counts cannot be read.
func TestAPageIsShownWithoutCharts(t *testing.T) {
	b := &uncounted{&away{Broker: newBroker(t)}}
	require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "send", "mail")))
	text := readable(get(t, newSite(t, b), "queue?name=mail", http.StatusOK))
	require.Contains(t, text, "The counts of runs cannot be read")
	require.Contains(t, text, "tallies are odd")
}

// TestSchedulesThatAreLateNeedAttention has more than are listed.
func TestSchedulesThatAreLateNeedAttention(t *testing.T) {
	now := time.Now()
	f := &fleet{Overview: &taskrt.Overview{Queues: &taskrt.QueueList{}, Schedules: &taskrt.ScheduleList{Now: now}}}
	for n := range mostAlerts + 2 {
		s := taskrt.ScheduleStatus{Task: "sweep", Next: now.Add(-2 * time.Minute), Overdue: true, Why: "no scheduler is up"}
		if n > 0 {
			s.ID = fmt.Sprint("report-", n)
		}
		f.Schedules.Schedules = append(f.Schedules.Schedules, s)
	}
	f.Instances = []*broker.Instance{{Role: broker.RoleConsumer, Host: "worker", PID: 3, Seen: now.Add(-25 * time.Second)}}
	v := new(overviewView)
	v.addAlerts(f)
	require.Len(t, v.Alerts, mostAlerts+2)
	require.Equal(t, alert{"s-bad", "overdue", "schedule of sweep", "schedules", "Its tick is late by 2 min: no scheduler is up."}, v.Alerts[0])
	require.Equal(t, "schedule report-1", v.Alerts[1].Subject)
	require.Equal(t, "2 schedules more", v.Alerts[mostAlerts].Subject)
	require.Equal(t, "consumer worker:3", v.Alerts[mostAlerts+1].Subject)
}
