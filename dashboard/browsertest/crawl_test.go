package browsertest

import (
	"cmp"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostCrawled bounds a crawl.
const mostCrawled = 600

var attributes = regexp.MustCompile(`(?:href|src|action|formaction)="([^"]*)"`)

// notYet are pages that others lead to and that are not there yet: none.
var notYet []string

// crawl follows all links from a dashboard's first page, and returns the addresses that it
// got, relative to base. Each has to be below base and to be there.
func crawl(t *testing.T, base string) []string {
	t.Helper()
	root, err := url.Parse(base)
	require.NoError(t, err)
	seen, next := map[string]string{"": base}, []string{""}
	for len(next) > 0 && len(seen) < mostCrawled {
		at := next[0]
		next = next[1:]
		page, err := root.Parse(cmp.Or(at, "./"))
		require.NoError(t, err)
		body := getPage(t, page.String(), "linked by "+seen[at])
		for _, found := range attributes.FindAllStringSubmatch(body, -1) {
			link := html.UnescapeString(found[1])
			if strings.HasPrefix(link, "#") || strings.HasPrefix(link, "act") {
				continue // within the page; what forms are sent to
			}
			require.False(t, strings.HasPrefix(link, "/") || strings.Contains(link, "://"), "page %q has a link that is not relative: %s", at, link)
			to, err := page.Parse(link)
			require.NoError(t, err, "page %q has link %s", at, link)
			to.Fragment = ""
			below, is := strings.CutPrefix(to.String(), base)
			require.True(t, is, "page %q leads out of the dashboard: %s is %s", at, link, to)
			if name, _, _ := strings.Cut(below, "?"); slices.Contains(notYet, name) {
				continue
			}
			if _, known := seen[below]; !known {
				seen[below] = at
				next = append(next, below)
			}
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// getPage requests an address, and returns the body of the reply. The test fails unless the
// status is 200.
func getPage(t *testing.T, address, why string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	require.NoError(t, err)
	reply, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.StatusCode, "%s (%s): %.2000s", address, why, body)
	return string(body)
}

// onePerKind returns one address for each page, state of runs and thing to do: the one
// with the fewest names in its query.
func onePerKind(addresses []string) []string {
	seen := make(map[string]bool)
	var kinds []string
	slices.SortStableFunc(addresses, func(a, b string) int { return cmp.Compare(strings.Count(a, "="), strings.Count(b, "=")) })
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil || strings.Contains(u.Path, ".") || strings.Contains(u.Path, "/") || u.Path == "payload" {
			continue // a file, or of the API
		}
		q := u.Query()
		kind := strings.Join([]string{u.Path, q.Get("state"), q.Get("do"), strconv.FormatBool(q.Has("from"))}, " ")
		if !seen[kind] {
			seen[kind] = true
			kinds = append(kinds, address)
		}
	}
	return kinds
}
