//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// delegated returns a directory that looks like a delegated control group.
func delegated(t *testing.T, controllers string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(controllers), 0o600))
	return dir
}

func TestControlGroupsNeedTheMemoryController(t *testing.T) {
	_, err := Open(delegated(t, "cpu pids\n"))
	require.ErrorContains(t, err, "has no memory controller for groups in it")
	_, err = Open(t.TempDir())
	require.ErrorContains(t, err, "read control group")
}

func TestAChildHasAControlGroupOfItsOwn(t *testing.T) {
	dir := delegated(t, "cpu memory\n")
	groups, err := Open(dir)
	require.NoError(t, err)
	first, err := groups.Add()
	require.NoError(t, err)
	second, err := groups.Add()
	require.NoError(t, err)
	require.NotEqual(t, first.dir.Name(), second.dir.Name())
	t.Cleanup(second.Remove)

	var attr syscall.SysProcAttr
	first.StartIn(&attr)
	require.True(t, attr.UseCgroupFD)
	require.Equal(t, int(first.dir.Fd()), attr.CgroupFD)

	// The kernel makes these files.
	for _, name := range []string{"memory.max", "memory.swap.max", "cgroup.kill", "cgroup.procs"} {
		require.NoError(t, os.WriteFile(filepath.Join(first.dir.Name(), name), nil, 0o600))
	}
	content := func(name string) string {
		b, err := os.ReadFile(filepath.Join(first.dir.Name(), name))
		require.NoError(t, err)
		return string(b)
	}
	require.NoError(t, first.Limit(64<<20))
	require.Equal(t, "100663296", content("memory.max"))
	require.Equal(t, "0", content("memory.swap.max"))
	require.NoError(t, first.Limit(0))
	require.Equal(t, "max", content("memory.max"))
	require.False(t, first.OOMKilled())
	require.NoError(t, os.WriteFile(filepath.Join(first.dir.Name(), "memory.events"), []byte("low 0\noom 2\noom_kill 1\n"), 0o600))
	require.True(t, first.OOMKilled())
	first.Kill()
	require.Equal(t, "1", content("cgroup.kill"))
	require.ErrorContains(t, second.Limit(1), "memory.max")
}

func TestWithoutControlGroupsNothingIsDone(t *testing.T) {
	var groups *Root
	group, err := groups.Add()
	require.NoError(t, err)
	require.Nil(t, group)
	var attr syscall.SysProcAttr
	group.StartIn(&attr)
	require.False(t, attr.UseCgroupFD)
	require.NoError(t, group.Limit(1))
	require.False(t, group.OOMKilled())
	group.Kill()
	group.Remove()
}
