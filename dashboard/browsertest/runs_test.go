package browsertest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// field returns a selector for the field of a form that has this label.
func (b *tab) field(label string) string {
	b.t.Helper()
	b.await("there is a field "+label, fieldOf(label))
	return "[id=" + quote(evaluate[string](b, fieldOf(label)+".id")) + "]"
}

// fieldOf is an expression for the field with a label.
func fieldOf(label string) string {
	return "(l => l && l.control)([...document.querySelectorAll('label')].find(l => (l.querySelector('b') || l.firstChild).textContent.trim() === " + quote(label) + "))"
}

// refresh loads the page again until it shows a text, as people without scripts do.
func (b *tab) refresh(text string) {
	b.t.Helper()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-again.C {
		found := false
		if b.try("document.body.innerText.includes("+quote(text)+")", &found) == nil && found {
			return
		}
		_ = b.try("document.readyState === 'complete' && location.reload()", nil) // it may just be left
	}
	b.t.Fatalf("page %s does not say %q:\n%s", b.address(), text, b.text())
}

// idShown returns the id of the run that the page is about.
func (b *tab) idShown() string {
	b.t.Helper()
	return evaluate[string](b, "new URLSearchParams(location.search).get('id')")
}

// TestARunIsQueuedAndWatched queues a run by its form and sees it start, say how far it is, and
// end, without loading the page again.
func TestARunIsQueuedAndWatched(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	tab := s.tab("")
	tab.click("nav a", "Tasks")
	tab.click("main a", "desk_hold")
	tab.fill(tab.field("label"), "the front door")
	tab.click("button", "Queue the run")
	tab.awaitPage("run", "did", "queue")
	tab.await("it waits", find("main .badge", "queued")+".length")
	evaluate[any](tab, "window.same = true")
	s.consume(taskrt.ConsumerConfig{})
	tab.await("it runs", find("main .badge", "running")+".length")
	tab.awaitText("waiting for the front door")
	s.letGo()
	tab.await("it has ended", find("main .badge", "succeeded")+".length")
	require.True(t, evaluate[bool](tab, "window.same"), "the page was loaded again")
	run, err := s.look.Run(t.Context(), tab.idShown())
	require.NoError(t, err)
	require.Equal(t, "desk_hold", run.Task)
	require.Equal(t, broker.StateSucceeded, run.State)
}

// TestAFailedRunIsFoundAndRetried finds runs by their errors, reads why they failed, and
// retries them, also with other parameters: with and without scripts.
func TestAFailedRunIsFoundAndRetried(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string]bool{"with scripts": true, "without scripts": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.consume(taskrt.ConsumerConfig{})
			for range 5 {
				s.greet("ada")
			}
			s.greet("nobody")
			s.greet("boom")
			s.awaitBroker("two dead letters", func() bool { return s.queue("guests").Dead == 2 })
			tab := newTab(t, s.base)
			tab.scripts(scripts)
			tab.expect("422 (Unprocessable Entity)") // the form with a mistake
			findFailed(tab, "NIL MAP", 1)
			tab.awaitText("assignment to entry in nil map")
			tab.await("the stack names the task", find("pre", "desk.GreetGuest")+".length")
			boom := tab.idShown()
			tab.click("button", "Retry")
			tab.awaitText("Queued again: 1 run")
			s.awaitBroker("it failed again", func() bool {
				run, err := s.look.Run(t.Context(), boom)
				return err == nil && run.State == broker.StateFailed && len(run.Attempts) == 2
			})

			findFailed(tab, "there is nobody", 1)
			tab.awaitText("greet nobody in Berlin: there is nobody of this name")
			tab.click("main a", "Retry with other parameters")
			tab.awaitPage("task", "name", "greet_guest")
			require.Equal(t, "nobody", evaluate[string](tab, fieldOf("name")+".value"))
			require.Equal(t, "Berlin", evaluate[string](tab, fieldOf("City")+".value"))
			tab.fill(tab.field("name"), "grace")
			tab.fill(tab.field("times"), "two")
			tab.click("button", "Queue the run")
			tab.awaitText("Nothing was queued")
			require.Equal(t, "grace", evaluate[string](tab, fieldOf("name")+".value"), "what was typed is kept")
			tab.fill(tab.field("times"), "2")
			tab.click("button", "Queue the run")
			tab.awaitPage("run", "did", "queue")
			if scripts {
				tab.awaitText("hello grace hello grace")
			} else {
				tab.refresh("hello grace hello grace")
			}
			tab.await("the secret is hidden", find("tr", "pin")+"[0].innerText.includes('***')")
			require.NotContains(t, evaluate[string](tab, "document.documentElement.outerHTML"), "4711")
		})
	}
}

// findFailed finds failed runs by a part of their error, and opens the first of so many.
func findFailed(tab *tab, part string, want int) {
	tab.t.Helper()
	tab.open("")
	tab.click("nav a", "Runs")
	tab.awaitPage("runs")
	tab.click("nav[aria-label=States] a", "Failed")
	tab.awaitPage("runs", "state", "failed")
	tab.fill("[name=error]", part)
	tab.click("button", "Search")
	tab.awaitPage("runs", "state", "failed", "error", part)
	tab.await("it is found", "document.querySelectorAll('tbody tr').length")
	require.Equal(tab.t, want, evaluate[int](tab, "document.querySelectorAll('tbody tr').length"), tab.text())
	tab.click("tbody a.id", "")
	tab.awaitPage("run")
}

// TestAQueueIsPausedAndRunsAreChosen pauses and resumes a queue, and cancels runs that a
// person chooses: with and without scripts.
func TestAQueueIsPausedAndRunsAreChosen(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string]bool{"with scripts": true, "without scripts": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for range 4 {
				s.greet("ada", taskrt.Delay(time.Hour))
			}
			tab := newTab(t, s.base)
			tab.scripts(scripts)
			tab.open("queues")
			tab.click("main a", "guests")
			tab.awaitPage("queue", "name", "guests")
			tab.click("button", "Pause")
			tab.awaitText("The queue is paused: consumers take no more runs")
			require.True(t, s.queue("guests").Paused)
			tab.click("button", "Resume")
			tab.awaitText("The queue is resumed.")
			require.False(t, s.queue("guests").Paused)

			tab.open("runs?state=delayed")
			tab.click("tbody tr:nth-child(1) input", "")
			tab.click("tbody tr:nth-child(3) input", "")
			tab.click("button", "Cancel selected")
			tab.awaitText("Cancelled: 2 runs.")
			require.Equal(t, int64(2), s.queue("guests").Delayed)
			if scripts {
				require.Equal(t, []string{"Cancel the selected runs?"}, tab.questions())
			}
			tab.open("runs?state=delayed")
			tab.click("tbody tr:nth-child(1) input", "")
			tab.click("button", "Run selected now")
			tab.awaitText("Made due now: 1 run.")
			require.Equal(t, int64(1), s.queue("guests").Queued)
			tab.open("runs?state=queued")
			tab.click("tbody a.id", "")
			tab.awaitPage("run")
			tab.click("button", "Cancel")
			tab.awaitText("Cancelled: 1 run.")
			if scripts {
				require.Equal(t, []string{"Cancel this run?"}, tab.questions())
			}
		})
	}
}
