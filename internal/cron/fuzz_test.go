package cron_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/cron"
)

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := cron.Parse(spec)
		if err != nil {
			require.Nil(t, s)
			var typed *cron.Error
			require.ErrorAs(t, err, &typed)
			require.NotEmpty(t, typed.Reason)
			require.True(t, typed.Offset >= 0 && typed.Offset <= len(spec), "offset %d of %q", typed.Offset, spec)
			return
		}
		again, err := cron.Parse(s.String())
		require.NoError(t, err)
		require.Equal(t, s, again)
		_, ok := s.Next(time.Date(2088, 2, 29, 23, 59, 0, 0, time.UTC), time.UTC)
		require.True(t, ok, "%q never comes", spec)
		require.Regexp(t, `^(at|every) [A-Za-z0-9:, ]+$`, s.Words())
	})
}

func FuzzNext(f *testing.F) {
	f.Fuzz(func(t *testing.T, spec string, sec int64, nsec uint32, place uint8) {
		s, err := cron.Parse(spec)
		if err != nil {
			return
		}
		loc := zone(t, oracleZones[int(place)%len(oracleZones)])
		at := time.Unix(sec, int64(nsec%1e9))
		next, ok := s.Next(at, loc)
		if !ok {
			require.Zero(t, next)
		} else {
			require.True(t, next.After(at), "Next of %q after %v is %v", spec, at, next)
			requireInverse(t, s, next, loc)
			for _, c := range s.ClockChanges(next.Year(), loc) {
				require.NotEmpty(t, c.Times)
				require.NotEmpty(t, c.String())
				if c.Runs == cron.RunsAfter {
					requireInverse(t, s, c.At, loc)
				}
			}
		}
		prev, ok := s.Prev(at, loc)
		if !ok {
			require.Zero(t, prev)
			return
		}
		require.False(t, prev.After(at), "Prev of %q at %v is %v", spec, at, prev)
		requireInverse(t, s, prev, loc)
		if following, ok := s.Next(prev, loc); ok {
			require.Equal(t, next, following, "Next of %q after %v and after Prev of it", spec, at)
		}
	})
}

// requireInverse checks that both directions find the instant at.
func requireInverse(t *testing.T, s *cron.Schedule, at time.Time, loc *time.Location) {
	t.Helper()
	require.Equal(t, loc, at.Location())
	prev, ok := s.Prev(at, loc)
	require.True(t, ok)
	require.Equal(t, at, prev, "Prev of %q at one of its instants", s)
	next, ok := s.Next(at.Add(-1), loc)
	require.True(t, ok)
	require.Equal(t, at, next, "Next of %q just before one of its instants", s)
}
