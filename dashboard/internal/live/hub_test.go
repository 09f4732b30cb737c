package live

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOnePageIsRenderedAnInterval has many watch several pages.
func TestOnePageIsRenderedAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rendered atomic.Int64
		h := NewHub(time.Second, func(_ context.Context, key string) (Parts, error) {
			return Parts{"part": fmt.Sprint(key, rendered.Add(1))}, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		var viewers sync.WaitGroup
		for n := range 60 {
			viewers.Go(func() {
				seen := 0
				err := h.Watch(ctx, fmt.Sprint("page", n%3), func(parts Parts, err error) error {
					seen++
					return err
				})
				if !errors.Is(err, context.DeadlineExceeded) || seen < 3 {
					t.Errorf("a viewer saw %d times what changed, then: %v", seen, err)
				}
			})
		}
		viewers.Wait()
		require.Equal(t, int64(10), rendered.Load())
	})
}

// TestNothingGoesOnOnceNobodyWatches leaves while a page is rendered: the viewer that was the
// last returns after the rendering, which is told to end.
func TestNothingGoesOnOnceNobodyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type role struct{}
		began, ended := make(chan struct{}), false
		h := NewHub(time.Second, func(ctx context.Context, key string) (Parts, error) {
			require.Equal(t, "admin", ctx.Value(role{}))
			close(began)
			<-ctx.Done()
			ended = true
			return nil, ctx.Err()
		})
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), role{}, "admin"))
		go func() { <-began; cancel() }()
		require.ErrorIs(t, h.Watch(ctx, "page", func(Parts, error) error { return nil }), context.Canceled)
		require.True(t, ended)
	})
}

// TestOnlyWhatChangedIsSent also sees an error that comes between.
func TestOnlyWhatChangedIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken, round := errors.New("broken"), 0
		h := NewHub(time.Second, func(context.Context, string) (Parts, error) {
			round++
			if round == 2 {
				return nil, broken
			}
			return Parts{"same": "a", "other": fmt.Sprint(round)}, nil
		})
		var got []any
		err := h.Watch(t.Context(), "page", func(parts Parts, err error) error {
			if err != nil {
				got = append(got, err)
				return nil
			}
			got = append(got, parts)
			if len(got) == 3 {
				return broken
			}
			return nil
		})
		require.ErrorIs(t, err, broken)
		require.Equal(t, []any{Parts{"same": "a", "other": "1"}, broken, Parts{"other": "3"}}, got)
	})
}
