package runtime

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

func TestSpansAreForPeople(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{0, "<1ms"}, {1500 * time.Microsecond, "1ms"}, {999 * time.Millisecond, "999ms"}, {time.Second, "1s"},
		{2390 * time.Millisecond, "2.3s"}, {59600 * time.Millisecond, "60s"}, {2*time.Minute - 1, "120s"}, {150 * time.Second, "3m"},
		{119 * time.Minute, "119m"}, {3*time.Hour - time.Second, "3h"}, {47 * time.Hour, "47h"}, {50 * time.Hour, "2d"}, {240 * time.Hour, "10d"},
	} {
		require.Equal(t, c.want, span(c.d), c.d)
	}
}

func TestWhatIsPrintedSteersNoTerminal(t *testing.T) {
	var all strings.Builder
	for r := range rune(0x3000) {
		all.WriteRune(r)
	}
	all.WriteString("\U000e0041\U0001f600\ufeff\ufffd")
	require.Equal(t, "héllo \"w\\rld\" 世界 😀", shown("héllo \"w\\rld\" 世界 😀"), "what is printable stays")
	require.Equal(t, `\xff\xfe\x1b\u2028\n`, shown("\xff\xfe\x1b\u2028\n"))
	b, err := marshal(all.String())
	require.NoError(t, err)
	for _, r := range shown(all.String()) + string(b) {
		require.True(t, unicode.IsPrint(r), "%q", r)
	}
	var back string
	require.NoError(t, json.Unmarshal(b, &back))
	require.Equal(t, all.String(), back, "JSON means what it did")
}
