package cron_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestZonesAreEmbedded: the generator and each application have the time zones
// in their binaries, for machines without zone files.
func TestZonesAreEmbedded(t *testing.T) {
	for _, pkg := range []string{"github.com/taskgen/taskgen/cmd/taskgen", "github.com/taskgen/taskgen/runtime"} {
		deps, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		require.NoError(t, err)
		require.Contains(t, strings.Fields(string(deps)), "time/tzdata", pkg)
	}
}
