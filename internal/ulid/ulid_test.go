package ulid_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/ulid"
)

func TestIDsSortByTimeAndDiffer(t *testing.T) {
	form := regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)
	at := time.UnixMilli(1469918176385) // the specification's example
	first := ulid.New(at)
	require.Equal(t, "01ARYZ6S41", first[:10])
	require.Less(t, first, ulid.New(at.Add(time.Millisecond)))

	const n = 1000
	ids := ulid.NewBatch(at, n)
	require.Len(t, ids, n*ulid.Size)
	seen := make(map[string]bool)
	for i := range n {
		id := ids[i*ulid.Size : (i+1)*ulid.Size]
		require.Regexp(t, form, id)
		require.False(t, seen[id], id)
		seen[id] = true
	}
}

func TestBatchIsOneAllocation(t *testing.T) {
	now := time.Now()
	require.LessOrEqual(t, testing.AllocsPerRun(100, func() { _ = ulid.NewBatch(now, 100) }), 1.0)
}
