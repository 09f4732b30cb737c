package access

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestStreamsAreBounded(t *testing.T) {
	s, ada, bob := NewStreams(3, 2), NewUser("ada", Reader, nil, nil), NewUser("bob", Reader, nil, nil)
	enter := func(u *User, want bool) (leave func()) {
		t.Helper()
		leave, ok := s.Enter(u)
		require.Equal(t, want, ok)
		return leave
	}
	leave := enter(ada, true)
	enter(ada, true)
	enter(ada, false) // it has as many as one may
	enter(bob, true)
	enter(bob, false) // all have
	leave()
	enter(bob, true)
	require.Equal(t, map[string]int{"ada": 1, "bob": 2}, s.users)
}
