package suggest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/suggest"
)

func TestMisspellingsAreNear(t *testing.T) {
	known := []string{"status", "runs", "run", "recorder_record"}
	for word, want := range map[string]string{
		"stauts": "status", "statu": "status", "rnu": "run", "run": "run", "runz": "runs", "recrder_recrod": "recorder_record",
		"": "", "x": "", "dance": "", "record": "", strings.Repeat("r", 1_000_000): "",
	} {
		require.Equal(t, want, suggest.Closest(word, known, 1+len(word)/8), "%.20s", word)
	}
}

func TestOneEditIsTheLimit(t *testing.T) {
	known := []string{"prefix", "db"}
	for word, want := range map[string]string{
		"prefx": "prefix", "prefixx": "prefix", "perfix": "prefix", "prafix": "prefix", "bd": "db",
		"prfx": "", "perfxi": "", "prefixes": "",
	} {
		require.Equal(t, want, suggest.Closest(word, known, 1), word)
	}
}
