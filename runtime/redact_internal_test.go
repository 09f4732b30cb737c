package runtime

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestASlotFreedBetweenLookingAndWaitingIsNoticed: the taker looks for room,
// finds one kind full, and only then asks to be told of it.
func TestASlotFreedBetweenLookingAndWaitingIsNoticed(t *testing.T) {
	s := newSlots(1, 1)
	require.True(t, s.acquire(context.Background(), IO))
	io, cpu := s.wait(context.Background(), [2]bool{true, true})
	require.Equal(t, [2]int{0, 1}, [2]int{io, cpu})
	s.release(IO)
	told := false
	defer s.notify(IO, func() { told = true })()
	require.True(t, told, "the taker asks for cpu alone and is not told that io has room")
}

func TestNoSecretOfAURLIsShown(t *testing.T) {
	for _, url := range []string{
		"redis://user:hunter2@host/0",
		"redis+sentinel://:hunter2@h:26379?master_name=m&sentinel_password=hunter2",
		"redi:hunter2@host", "postgres:user:hunter2@h", "http://h/?token=hunter2", "redis://user:hunter2%zz@host",
	} {
		require.NotContains(t, redact(url), "hunter2", url)
	}
	require.True(t, strings.HasPrefix(redact("redis://user:x@host:1/0"), "redis://host:1/0"))
}
