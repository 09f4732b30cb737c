package web

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAPageIsFollowed reads the stream of a page, changes something, and polls.
func TestAPageIsFollowed(t *testing.T) {
	t.Parallel() // it waits for seconds
	b := newBroker(t)
	require.NoError(t, b.QueueTasks(t.Context(), newRun("1", "send", "mail")))
	server := httptest.NewServer(newSite(t, b))
	t.Cleanup(server.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/events?page=queue%3Fname%3Dmail", nil)
	require.NoError(t, err)
	reply, err := server.Client().Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	require.Equal(t, "text/event-stream", reply.Header.Get("Content-Type"))
	lines := bufio.NewScanner(reply.Body)
	lines.Buffer(nil, 1<<20)
	next := func() map[string]string {
		for lines.Scan() {
			if data, found := strings.CutPrefix(lines.Text(), "data: "); found {
				parts := map[string]string{}
				require.NoError(t, json.Unmarshal([]byte(data), &parts))
				return parts
			}
		}
		t.Fatal("the stream ended")
		return nil
	}
	require.Contains(t, next()["state"], "no consumer")
	require.NoError(t, b.Pause(t.Context(), "mail", true))
	for !strings.Contains(next()["state"], "The queue is paused") {
	}

	poll, err := server.Client().Get(server.URL + "/events?poll=1&page=queues%3Fname%3Dmail")
	require.NoError(t, err)
	defer poll.Body.Close()
	parts := map[string]string{}
	require.NoError(t, json.NewDecoder(poll.Body).Decode(&parts))
	require.Contains(t, parts["queues"], "paused")
	for _, page := range []string{"nothing", "https%3A%2F%2Fexample.com%2F", "..%2Fqueues", "act", "events"} {
		get(t, newSite(t, b), "events?page="+page, http.StatusNotFound)
	}
}

// TestPagesThatAreFollowedAreBounded has a user follow as many as one may.
func TestPagesThatAreFollowedAreBounded(t *testing.T) {
	h := newSite(t, newBroker(t)).(*testSite)
	for range viewsOfUser {
		leave, ok := h.views.Enter(h.user)
		require.True(t, ok)
		defer leave()
	}
	require.Contains(t, get(t, h, "events?page=queues", http.StatusTooManyRequests), "followed")
	get(t, h, "events?poll=1&page=queues", http.StatusTooManyRequests)
}
