package instance

import (
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestVersionOfAProgram(t *testing.T) {
	built := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	revision := debug.BuildSetting{Key: "vcs.revision", Value: "0123456789abcdef0123456789abcdef01234567"}
	for _, c := range []struct {
		info *debug.BuildInfo
		want string
	}{
		{built("v1.2.3", revision), "v1.2.3"},
		{built("(devel)", revision), "0123456789ab"},
		{built("(devel)", revision, debug.BuildSetting{Key: "vcs.modified", Value: "true"}), "0123456789ab+dirty"},
		{built("", revision, debug.BuildSetting{Key: "vcs.modified", Value: "false"}), "0123456789ab"},
		{built("(devel)"), ""},
		{built(""), ""},
	} {
		require.Equal(t, c.want, versionOf(c.info))
	}
}

func TestTimeOfTheCommit(t *testing.T) {
	of := func(settings ...debug.BuildSetting) string {
		at := committed(&debug.BuildInfo{Settings: settings})
		if at.IsZero() {
			return ""
		}
		return at.UTC().Format(time.RFC3339)
	}
	at, same, changed := debug.BuildSetting{Key: "vcs.time", Value: "2026-03-01T12:00:00Z"},
		debug.BuildSetting{Key: "vcs.modified", Value: "false"}, debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	require.Equal(t, at.Value, of(at, same))
	require.Empty(t, of(at, changed))
	require.Empty(t, of(changed, at))
	require.Empty(t, of())
	require.False(t, Built().IsZero())
}
