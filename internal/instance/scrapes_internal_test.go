package instance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReadingsThatGoOnAreRegular reads metrics at these seconds.
func TestReadingsThatGoOnAreRegular(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	for _, c := range []struct {
		reads []int
		now   int
		since int // -1: not regular
	}{
		{nil, 0, -1},
		{[]int{0}, 1, -1},
		{[]int{0, 15}, 15, 0},
		{[]int{0, 60, 120}, 270, 0},
		{[]int{0, 60, 120}, 271, -1},
		{[]int{0, 60, 300}, 301, -1},
		{[]int{0, 60, 300, 330}, 331, 300},
		{[]int{0, 300, 600, 900}, 901, -1},
	} {
		var s Scrapes
		begins := 0
		for _, at := range c.reads {
			if s.Add(start.Add(time.Duration(at) * time.Second)) {
				begins++
			}
		}
		want := time.Time{}
		if c.since >= 0 {
			want = start.Add(time.Duration(c.since) * time.Second)
			require.Positive(t, begins, c)
		}
		require.Equal(t, want, s.Since(start.Add(time.Duration(c.now)*time.Second)), c)
	}
}

func TestAnAddressHasAHostThatOthersReach(t *testing.T) {
	require.NotEmpty(t, Host())
	for address, want := range map[string]string{
		":8080": Host() + ":8080", "[::]:8080": Host() + ":8080", "0.0.0.0:80": Host() + ":80",
		"127.0.0.1:8080": "127.0.0.1:8080", "[::1]:80": "[::1]:80", "metrics.example:80": "metrics.example:80", "http://x/metrics": "http://x/metrics", "": "",
	} {
		require.Equal(t, want, Reachable(address), address)
	}
}
