package backoff_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/backoff"
)

func TestWaitsDoubleUpToTheMaximum(t *testing.T) {
	b := backoff.New(100*time.Millisecond, 500*time.Millisecond)
	for range 2 {
		for _, most := range []time.Duration{100, 200, 400, 500, 500} {
			most *= time.Millisecond
			d := b.Next()
			require.GreaterOrEqual(t, d, most/2)
			require.LessOrEqual(t, d, most)
		}
		b.Reset()
	}
}

func TestSleepEndsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backoff.New(time.Hour, time.Hour)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.Sleep(ctx)
		require.Equal(t, time.Second, time.Since(began))

		closed := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(closed) })
		b.SleepUnless(t.Context(), closed)
		require.Equal(t, 2*time.Second, time.Since(began))

		b.Sleep(t.Context())
		require.GreaterOrEqual(t, time.Since(began), 30*time.Minute)
	})
}
