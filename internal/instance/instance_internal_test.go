package instance

import (
	"runtime/debug"
	"testing"

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
