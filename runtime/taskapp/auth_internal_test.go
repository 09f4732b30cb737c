package taskapp

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/dashboard"
)

// TestFlagsWinOverTheAccessOfTheApp chooses who may ask.
func TestFlagsWinOverTheAccessOfTheApp(t *testing.T) {
	own := dashboard.AccessFunc(func(*http.Request) (*dashboard.User, error) { return &dashboard.User{Name: "own"}, nil })
	var none, flag, app, probes httpAccess
	none.choose(nil)
	require.Nil(t, none.access)
	require.False(t, none.chosen)
	require.NoError(t, flag.add("header:X-User,read,10.0.0.0/8"))
	flag.choose(own)
	_, err := flag.access.User(&http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{}})
	require.ErrorIs(t, err, dashboard.ErrNoUser)
	require.NoError(t, probes.add("probes"))
	probes.choose(own)
	app.choose(own)
	for _, a := range []httpAccess{app, probes} {
		u, err := a.access.User(new(http.Request))
		require.NoError(t, err)
		require.Equal(t, "own", u.Name)
		require.True(t, a.chosen)
	}
	require.ErrorContains(t, none.add("header:X-User,read,example.com"), "example.com")
}
