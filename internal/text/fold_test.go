package text_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/text"
)

func TestNumbersAndIdsAreFolded(t *testing.T) {
	for given, want := range map[string]string{
		"":                             "",
		"no numbers at all":            "no numbers at all",
		"order 1234 is unpaid":         "order # is unpaid",
		"dial tcp 10.0.0.12:6379: i/o": "dial tcp #:#: i/o",
		"took 1.5s, more than 30ms":    "took #s, more than #ms",
		"attempt3 of step-4":           "attempt# of step-#",
		"user 1b4e28ba-2fa1-11d2-883f-0016d3cca427 is gone": "user # is gone",
		"blob 9f86d081884c7d659a2feaa0c55ad015: not found":  "blob #: not found",
		"run 01JQ8ZK3V7M9 of utf8":                          "run # of utf#",
		"two\nlines":                                        "two",
		"\n\n padded 1 ":                                    "padded #",
		"é 7 ü":                                             "é # ü",
		"bad \xff 1":                                        "bad \ufffd #",
	} {
		require.Equal(t, want, text.Fold(given), given)
		require.Equal(t, want, text.Fold(want), "folded twice")
	}
	require.Len(t, text.Fold(strings.Repeat("a ", 1000)), 200)
}
