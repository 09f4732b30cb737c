package bulk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/memory"
	"github.com/taskgen/taskgen/dashboard/internal/access"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// queued returns jobs over an embedded broker with n runs of the task a, and one of b.
func queued(t *testing.T, n int) (*Jobs, *memory.Broker, *bytes.Buffer) {
	t.Helper()
	b := memory.New()
	t.Cleanup(func() { _ = b.Close() })
	runs := []*broker.TaskRun{{ID: "b", Task: "b", Queue: "q", Payload: []byte{0x80}}}
	for i := range n {
		runs = append(runs, &broker.TaskRun{ID: fmt.Sprintf("a%d", i), Task: "a", Queue: "q", Payload: []byte{0x80}})
	}
	require.NoError(t, b.QueueTasks(t.Context(), runs...))
	i, err := taskrt.NewInspector(b)
	require.NoError(t, err)
	var log bytes.Buffer
	return New(i, slog.New(slog.NewTextHandler(&log, nil))), b, &log
}

func as(t *testing.T, name string, role access.Role, tasks ...string) context.Context {
	return access.WithUser(t.Context(), access.NewUser(name, role, nil, tasks))
}

func TestAJobChangesWhatMatches(t *testing.T) {
	jobs, b, log := queued(t, 2500)
	ctx := as(t, "ada", access.Operator)
	r := Request{Kind: Cancel, Filter: taskrt.RunFilter{Task: "a"}}
	count, err := jobs.Count(ctx, r)
	require.NoError(t, err)
	require.True(t, count.Complete)
	require.Equal(t, 2500, count.Changed)
	s, err := jobs.Start(ctx, r)
	require.NoError(t, err)
	require.Equal(t, "ada", s.User)
	s, err = jobs.Wait(ctx, s.ID)
	require.NoError(t, err)
	require.Equal(t, Done, s.State)
	require.Equal(t, 2500, s.Changed)
	require.Zero(t, s.Stayed)
	lengths, err := b.QueueLength(ctx)
	require.NoError(t, err)
	require.Equal(t, map[string]int64{"q": 1}, lengths)
	require.Contains(t, log.String(), "user=ada")
	require.Contains(t, log.String(), "changed=2500")
	require.Len(t, jobs.List(ctx), 1)
}

func TestAJobIsSlowAndStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs, b, _ := queued(t, 5000)
		ctx := as(t, "ada", access.Operator)
		s, err := jobs.Start(ctx, Request{Kind: Cancel, PerSecond: 10})
		require.NoError(t, err)
		synctest.Wait()
		s, err = jobs.Get(ctx, s.ID)
		require.NoError(t, err)
		require.Equal(t, Running, s.State)
		s, err = jobs.Stop(ctx, s.ID)
		require.NoError(t, err)
		require.Equal(t, Stopped, s.State)
		require.NoError(t, s.Err)
		lengths, err := b.QueueLength(ctx)
		require.NoError(t, err)
		require.Positive(t, lengths["q"], "the rate did not hold it back")
		require.Equal(t, int64(5001-s.Changed), lengths["q"])
	})
}

func TestJobsNeedTheAction(t *testing.T) {
	jobs, _, _ := queued(t, 3)
	all := Request{Kind: Cancel}
	one := Request{Kind: Cancel, Filter: taskrt.RunFilter{Task: "a", IDs: []string{"a0", "b", "none"}}}
	var denied *access.DeniedError
	for _, ctx := range []context.Context{t.Context(), as(t, "r", access.Reader), as(t, "o", access.Operator, "a")} {
		_, err := jobs.Start(ctx, all)
		require.ErrorAs(t, err, &denied)
		_, err = jobs.Count(ctx, all)
		require.ErrorAs(t, err, &denied)
	}
	_, err := jobs.Start(as(t, "o", access.Operator), Request{Kind: Delete})
	require.ErrorAs(t, err, &denied)
	_, err = jobs.Start(as(t, "o", access.Operator, "b"), one)
	require.ErrorAs(t, err, &denied)
	owner := as(t, "o", access.Operator, "a")
	s, err := jobs.Start(owner, one)
	require.NoError(t, err)
	s, err = jobs.Wait(owner, s.ID)
	require.NoError(t, err)
	require.Equal(t, 1, s.Changed, "it changed what is not of the user's task")
	require.Equal(t, []string{"b", "none"}, s.Missing)

	_, err = jobs.Get(as(t, "x", access.Operator, "b"), s.ID)
	require.ErrorIs(t, err, ErrNoJob)
	require.Empty(t, jobs.List(as(t, "x", access.Operator, "b")))
	_, err = jobs.Stop(as(t, "r", access.Reader), s.ID)
	require.ErrorAs(t, err, &denied)
	_, err = jobs.Stop(as(t, "admin", access.Admin), s.ID)
	require.NoError(t, err)
	_, err = jobs.Start(as(t, "admin", access.Admin), Request{Kind: "explode"})
	require.Equal(t, 422, HTTPStatus(err))
	_, err = jobs.Start(as(t, "admin", access.Admin), Request{Kind: Cancel, PerSecond: -1})
	require.Equal(t, 422, HTTPStatus(err))
}

func TestJobsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs, _, _ := queued(t, 5000)
		ctx := as(t, "ada", access.Admin)
		var last string
		for range maxRunning {
			s, err := jobs.Start(ctx, Request{Kind: Cancel, PerSecond: 1})
			require.NoError(t, err)
			last = s.ID
		}
		_, err := jobs.Start(ctx, Request{Kind: Cancel})
		require.ErrorIs(t, err, ErrBusy)
		require.Equal(t, 429, HTTPStatus(err))
		_, err = jobs.Stop(ctx, last)
		require.NoError(t, err)
		for range 2 * maxKept {
			s, err := jobs.Start(ctx, Request{Kind: Delete})
			require.NoError(t, err)
			_, err = jobs.Wait(ctx, s.ID)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, len(jobs.List(ctx)), maxKept+maxRunning)
		jobs.stopAll()
		synctest.Wait()
		for _, s := range jobs.List(ctx) {
			require.NotEqual(t, Running, s.State)
		}
	})
}

// TestTheEndOfTheServerStopsJobs also checks that a job goes on after its request.
func TestTheEndOfTheServerStopsJobs(t *testing.T) {
	jobs, _, _ := queued(t, 5000)
	ctx := as(t, "ada", access.Admin)
	started := make(chan Status, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s, err := jobs.Start(access.WithUser(r.Context(), access.UserOf(ctx)), Request{Kind: Cancel, PerSecond: 1})
		if err != nil {
			t.Error(err)
		}
		started <- s
	}))
	defer server.Close()
	reply, err := http.Get(server.URL)
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	s := <-started
	s, err = jobs.Get(ctx, s.ID)
	require.NoError(t, err)
	require.Equal(t, Running, s.State)
	require.NoError(t, server.Config.Shutdown(ctx))
	s, err = jobs.Wait(ctx, s.ID)
	require.NoError(t, err)
	require.Equal(t, Stopped, s.State)
}

func TestAJobFailsWithItsBroker(t *testing.T) {
	jobs, b, log := queued(t, 3)
	ctx := as(t, "ada", access.Admin)
	require.NoError(t, b.Close())
	s, err := jobs.Start(ctx, Request{Kind: Cancel})
	require.NoError(t, err)
	s, err = jobs.Wait(ctx, s.ID)
	require.NoError(t, err)
	require.Equal(t, Failed, s.State)
	require.Error(t, s.Err)
	require.Contains(t, log.String(), "error=")
	require.Zero(t, HTTPStatus(errors.New("other")))
}
