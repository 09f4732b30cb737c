package browsertest

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/redistest"
	"github.com/taskgen/taskgen/redis"
	taskrt "github.com/taskgen/taskgen/runtime"
)

// TestPagesSayThatTheBrokerIsAway stops the server: a page that is looked at says so, and how
// old what it shows is, each page that is opened says it too, and all of them come back.
func TestPagesSayThatTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	own := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := newSiteOn(t, own, redis.Config{Timeout: 500 * time.Millisecond})
	id := s.greet("ada").ID
	watching := func(t *testing.T) *tab {
		tab := newTab(t, s.base)
		tab.expect("502 (Bad Gateway)")
		tab.expect("503 (Service Unavailable)")
		return tab
	}
	tab := watching(t)
	tab.open("queues")
	tab.awaitText("guests")
	own.Stop()
	tab.awaitText("The broker cannot be read")
	tab.awaitText("This is how it was")
	tab.awaitText("guests")
	t.Run("pages", func(t *testing.T) {
		for _, page := range []string{"", "queues", "queue?name=guests", "runs", "runs?state=failed", "run?queue=guests&id=" + id, "dead", "schedules", "limits", "consumers", "group?queue=guests&id=" + id} {
			t.Run(page, func(t *testing.T) {
				t.Parallel()
				other := watching(t)
				other.open(page)
				text := strings.ToLower(other.text())
				require.True(t, strings.Contains(text, "broker") || strings.Contains(text, "connection refused"), "page %s does not say that the broker is away:\n%s", page, text)
			})
		}
	})
	own.Restart()
	tab.await("it recovers", "!document.body.innerText.includes('This is how it was') && document.body.innerText.includes('guests')")
	tab.open("runs")
	tab.awaitText("greet_guest")
}

// hostile are texts that a page must show as texts.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(2)>`, `'onmouseover='alert(3)`, `javascript:alert(4)`, `</live-part><script>alert(5)</script>`,
	"{{.V}} ${alert(6)} `alert(7)`", "\u202egnp.exe \u2066\u2069", "\x00\x1b[31m\x7f\u2028\u2029", `</textarea><svg/onload=alert(8)>`, strings.Repeat("<b>long</b>", 6000),
}

// TestHostileTextRunsNoScript queues and fails runs whose every text is hostile, and opens each
// page that links lead to. A tab fails its test if a page runs a script or breaks its policy.
func TestHostileTextRunsNoScript(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.consume(taskrt.ConsumerConfig{})
	queued := int64(0)
	for _, text := range hostile {
		s.hostile(text)
		queued++
	}
	s.awaitBroker("all failed", func() bool { return s.queue("guests").Dead == queued })
	tab := newTab(t, s.base)
	pages := onePerKind(crawl(t, s.base))
	pages = append(pages, "dead?list=1", "runs?error="+"%3Cscript%3Ealert(1)%3C%2Fscript%3E", "runs?task=%22%3E%3Cimg+src%3Dx+onerror%3Dalert(2)%3E", "queues?name=%3C%2Flive-part%3E")
	found, err := s.look.Dead(t.Context(), taskrt.RunFilter{}, taskrt.PageOptions{Max: 100})
	require.NoError(t, err)
	for i := range found.Letters {
		pages = append(pages, "run?queue=guests&id="+found.Letters[i].Run.ID)
	}
	for _, page := range pages {
		tab.open(page)
		require.Zero(t, evaluate[int](tab, "document.querySelectorAll('main script, img, [onerror], [onload], [onmouseover], main b > b').length"), page)
	}
}
