package browsertest

import (
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// tabTo presses the tabulator until the element of a selector with a text has the focus, which
// has to be visible at each stop.
func (b *tab) tabTo(selector, text string) {
	b.t.Helper()
	b.await("there is "+selector+" with "+text, find(selector, text)+".length > 0")
	for range 120 {
		b.press(kb.Tab)
		at := evaluate[struct {
			Is, Seen bool
			What     string
		}](b, `(() => {
			const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
			const seen = e === document.body || s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 && r.width > 0 && r.right > 0 && r.bottom > 0 && r.top < innerHeight;
			return {Is: `+find(selector, text)+`.includes(e), Seen: seen, What: e.outerHTML.slice(0, 160)};
		})()`)
		require.True(b.t, at.Seen, "the focus cannot be seen: %s", at.What)
		if at.Is {
			return
		}
	}
	b.t.Fatalf("the keyboard does not reach %s with %s", selector, text)
}

// TestAllWorksByKeyboard touches no mouse: it skips the navigation, queues a run by its form,
// pauses a queue, finds a failed run and retries it.
func TestAllWorksByKeyboard(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	f := s.fill()
	tab := s.tab("")
	tab.press(kb.Tab)
	require.Equal(t, "Skip to the content", evaluate[string](tab, "document.activeElement.innerText"))
	tab.press(kb.Enter)
	tab.await("the content has the focus", "document.activeElement.id === 'content'")

	tab.press("gt")
	tab.awaitPage("tasks")
	tab.tabTo("a", "measure")
	tab.press(kb.Enter)
	tab.awaitPage("task", "name", "measure")
	tab.tabTo("textarea.grow", "")
	tab.press("typed")
	tab.tabTo("button", "Queue the run")
	tab.press(kb.Enter)
	tab.awaitPage("run", "did", "queue")
	tab.awaitText("succeeded")

	tab.press("gq")
	tab.awaitPage("queues")
	tab.press("/" + kb.Backspace) // the browser is sent its letter although the page handled the key
	tab.press("gue")
	tab.press(kb.Enter)
	tab.awaitPage("queues", "name", "gue")
	tab.tabTo("main a", "guests")
	tab.press(kb.Enter)
	tab.awaitPage("queue", "name", "guests")
	tab.tabTo("button", "Pause")
	tab.press(" ")
	tab.awaitText("The queue is paused")
	require.True(t, s.queue("guests").Paused)

	tab.open("dead?list=1")
	tab.tabTo("main a.id", f.boom[len(f.boom)-12:])
	tab.press(kb.Enter)
	tab.awaitPage("run")
	tab.tabTo("button", "Retry")
	tab.press(kb.Enter)
	tab.awaitText("Queued again: 1 run")
	require.Equal(t, int64(1), s.queue("guests").Queued)

	tab.tabTo("[data-theme-set=dark]", "Dark")
	tab.press(" ")
	require.Equal(t, "dark", evaluate[string](tab, "document.documentElement.className"))
	tab.open("queues")
	require.Equal(t, "dark", evaluate[string](tab, "document.documentElement.className"), "the theme is kept")
}
