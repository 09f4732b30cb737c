package runtime_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
	taskrt "github.com/taskgen/taskgen/runtime"
)

func TestOldDeadLettersAreDeleted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newMemory(t)
		consume(t, b, taskrt.ConsumerConfig{DeadAge: 3 * time.Hour}, tasks.Tasks(new(journal).recorder(func(context.Context, *taskrt.Run, string) error {
			return taskrt.Permanent(errors.New("no"))
		})))
		ctx := clientContext(context.Background(), b)
		dead := func() (ids []string) {
			t.Helper()
			letters, err := b.DeadLetters(ctx, "default", 100)
			require.NoError(t, err)
			for _, letter := range letters {
				ids = append(ids, letter.ID)
			}
			return ids
		}
		for i, id := range []string{"first", "second", "third", "second"} { // an id can be used again
			_, err := tasks.QueueRecorderRecord(ctx, id, taskrt.ID(id))
			require.NoError(t, err)
			time.Sleep(90 * time.Minute)
			if i == 1 {
				require.Equal(t, []string{"second", "first"}, dead())
			}
		}
		time.Sleep(time.Hour)
		require.Equal(t, []string{"second", "second"}, dead(), "an old one goes with the last of its id")
		time.Sleep(3 * time.Hour)
		require.Empty(t, dead())
	})
}
