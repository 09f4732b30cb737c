package main_test

import (
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/examples/imaging/tasks"
)

func TestFaultsAreToldApartAndTheRestIsDone(t *testing.T) {
	binary, dir := filepath.Join(t.TempDir(), "imaging"), t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".")
	// The race detector takes several times the memory that the example allows.
	build.Env = append(os.Environ(), "GOFLAGS="+strings.ReplaceAll(os.Getenv("GOFLAGS"), "-race", ""))
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	out, err = exec.Command(binary, dir).CombinedOutput()
	require.NoError(t, err, string(out))
	text := string(out)
	require.Regexp(t, `(?m)^blue-sky.png +timeout .* in palette$`, text)
	require.Regexp(t, `(?m)^bomb.png +oom .* beyond the cap of 128 MiB`, text)
	require.Regexp(t, `(?m)^ribbon.png +crashed .* exit status 2 .* in shrink`, text)
	require.Len(t, regexp.MustCompile(`(?m)^holiday-\d\d\.(?:png|jpg) +done `).FindAllString(text, -1), 12)
	require.True(t, strings.HasSuffix(text, "12 done, 1 crashed, 1 out of memory, 1 timed out\n"), text)

	thumbs, err := filepath.Glob(filepath.Join(dir, "thumbs", "holiday-*.thumb.png"))
	require.NoError(t, err)
	require.Len(t, thumbs, 12)
	for _, name := range thumbs {
		f, err := os.Open(name)
		require.NoError(t, err)
		picture, err := png.Decode(f)
		require.NoError(t, err, name)
		require.NoError(t, f.Close())
		require.Equal(t, tasks.Size, picture.Bounds().Dx())
	}
}
