package browsertest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// axeScript is what finds barriers in a page; make test fetches it.
const axeScript = "../../bin/axe/node_modules/axe-core/axe.min.js"

// barriers returns what axe-core finds in the page.
func (b *tab) barriers(source, options string) []string {
	b.t.Helper()
	require.NoError(b.t, b.try(source+"; null", nil))
	return evaluate[[]string](b, "axe.run(document, "+options+").then(found => found.violations.flatMap("+
		"v => v.nodes.map(n => v.id + ': ' + v.help + ': ' + n.target.join(' ') + ' ' + n.html.slice(0, 160) + ' ' + (n.any[0] || n.all[0] || n.none[0] || {}).message)))")
}

// tooWide returns what makes the page scroll sideways: empty if it does not.
func (b *tab) tooWide() string {
	b.t.Helper()
	return evaluate[string](b, `(() => {
		const root = document.documentElement;
		if (root.scrollWidth <= root.clientWidth) return '';
		const out = [...document.querySelectorAll('main *, header *, footer *')].filter(e => e.getBoundingClientRect().right > root.clientWidth + 0.5);
		return root.scrollWidth + ' > ' + root.clientWidth + ': ' + out.slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join('\n');
	})()`)
}

// moving returns what moves in the page by itself or when the mouse comes.
func (b *tab) moving() []string {
	b.t.Helper()
	return evaluate[[]string](b, `[...document.querySelectorAll('*')].filter(e => {
		const s = getComputedStyle(e);
		return s.animationName !== 'none' || s.transitionDuration.split(',').some(d => parseFloat(d) > 0.01) || s.scrollBehavior === 'smooth';
	}).map(e => e.outerHTML.slice(0, 120))`)
}

// TestBarriersAreFound keeps the checks of the tour from finding nothing.
func TestBarriersAreFound(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(axeScript)
	require.NoError(t, err, "make bin/axe/.fetched fetches it, and make test does so first")
	s := newSite(t)
	tab := s.tab("queues")
	evaluate[any](tab, `(() => {
		const wide = document.createElement('hr'), picture = document.createElement('img'); // it lacks an alt
		wide.style.width = '2000px';
		document.querySelector('main').append(wide, picture);
		const sheet = new CSSStyleSheet();
		sheet.replaceSync('h1 { transition: color 1s; }');
		document.adoptedStyleSheets.push(sheet);
	})()`)
	require.Contains(t, strings.Join(tab.barriers(string(source), "{}"), "\n"), "image-alt")
	require.Contains(t, tab.tooWide(), "<hr")
	require.Contains(t, strings.Join(tab.moving(), "\n"), "<h1")
}

// TestEveryPageIsAccessible has axe-core look at all pages that links lead to, in both themes,
// and sees that none scrolls sideways on the narrowest phones.
func TestEveryPageIsAccessible(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile(axeScript)
	require.NoError(t, err, "make bin/axe/.fetched fetches it, and make test does so first")
	s := newSite(t)
	f := s.fill()
	pages := onePerKind(crawl(t, s.base))
	for _, id := range []string{f.boom, f.done, f.running, f.held, f.delayed} {
		pages = append(pages, "run?id="+id)
	}
	t.Logf("%d kinds of pages:\n%s", len(pages), strings.Join(pages, "\n"))
	const tabs = 3
	for n := range tabs {
		t.Run(fmt.Sprint("tab", n), func(t *testing.T) {
			t.Parallel()
			tab := newTab(t, s.base)
			for i := n; i < len(pages); i += tabs {
				tab.prefer("prefers-color-scheme", "light", "prefers-reduced-motion", "reduce")
				tab.open(pages[i])
				for _, found := range tab.barriers(string(source), "{}") {
					t.Errorf("page %s: %s", pages[i], found)
				}
				tab.prefer("prefers-color-scheme", "dark", "prefers-reduced-motion", "reduce")
				for _, found := range tab.barriers("", "{runOnly: ['color-contrast', 'link-in-text-block']}") {
					t.Errorf("page %s, dark: %s", pages[i], found)
				}
				tab.size(320, 640)
				if wide := tab.tooWide(); wide != "" {
					t.Errorf("page %s is wider than 320 pixels: %s", pages[i], wide)
				}
				for _, found := range tab.barriers("", "{runOnly: ['color-contrast', 'scrollable-region-focusable', 'target-size']}") {
					t.Errorf("page %s, dark and narrow: %s", pages[i], found)
				}
				for _, found := range tab.moving() {
					t.Errorf("page %s moves although the person prefers that nothing does: %s", pages[i], found)
				}
				tab.size(1280, 900)
			}
		})
	}
}
