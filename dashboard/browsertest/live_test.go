package browsertest

import "testing"

// TestPagesFollow sees a page show by itself what another program does.
func TestPagesFollow(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.greet("ada")
	tab := s.tab("queues")
	tab.awaitText("guests")
	s.greet("grace")
	s.greet("edsger")
	tab.await("the page follows", "/\\b3\\b/.test(document.querySelector(\"tr:has(a[href*='guests'])\").innerText)")
}
