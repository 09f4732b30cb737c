package browsertest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/desk"
)

// TestAllThatMatchAreCancelled cancels 5,000 runs that a filter chooses, of 5,100 in the queue,
// and follows the job.
func TestAllThatMatchAreCancelled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	letters := make([]desk.LetterParams, 1000)
	for n := range letters {
		letters[n] = desk.LetterParams{Street: "High Street", Number: n}
	}
	for range 5 {
		_, err := desk.QueueLetterBatch(s.ctx, letters)
		require.NoError(t, err)
	}
	for range 100 {
		_, err := desk.QueueMeasure(s.ctx, "stays")
		require.NoError(t, err)
	}
	tab := s.tab("runs")
	tab.fill("[name=task]", "letter")
	tab.click("button", "Search")
	tab.awaitPage("runs", "task", "letter")
	tab.click("a", "Cancel all that match")
	tab.awaitPage("bulk", "do", "cancel")
	tab.await("it counts", "document.body.innerText.includes('would be changed')")
	if evaluate[bool](tab, find("a", "Count all of them")+".length > 0") {
		tab.click("a", "Count all of them")
	}
	tab.awaitText("5,000 runs would be changed")
	require.Equal(t, int64(5000), s.queue("letters").Queued+s.queue("letters").Held, "nothing is changed yet")
	tab.fill("[name=rate]", "2500")
	tab.click("button", "Cancel them")
	tab.await("the job is shown", "new URLSearchParams(location.search).has('job')")
	evaluate[any](tab, "window.same = true")
	tab.await("it is under way", "(p => p && p.value > 0 && p.value < p.max)(document.querySelector('progress'))")
	tab.await("it is done", find("main .badge", "done")+".length")
	tab.await("its counts are shown", find(".figures div", "5,000")+".length")
	require.True(t, evaluate[bool](tab, "window.same"), "the page was loaded again")
	require.Zero(t, s.queue("letters").Queued+s.queue("letters").Held)
	require.Equal(t, int64(100), s.queue("guests").Queued)
	tab.questions() // one may be asked before it begins
}

// TestAJobIsStopped stops a job that would take hours.
func TestAJobIsStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	letters := make([]desk.LetterParams, 500)
	_, err := desk.QueueLetterBatch(s.ctx, letters)
	require.NoError(t, err)
	tab := newTab(t, s.base)
	tab.scripts(false)
	tab.open("bulk?do=cancel&queue=letters")
	tab.fill("[name=rate]", "1")
	tab.click("button", "Cancel them")
	tab.await("the job is shown", "new URLSearchParams(location.search).has('job')")
	tab.click("button", "Stop it")
	tab.awaitPage("bulk", "did", "all-stop")
	tab.refresh("stopped")
	queue := s.queue("letters")
	require.Positive(t, queue.Queued+queue.Held)
}
