//go:build linux

package subprocess

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// delegated is a directory that looks like a control group to make others in.
func delegated(t *testing.T, controllers string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(controllers), 0o600))
	return dir
}

func TestControlGroupsNeedTheMemoryController(t *testing.T) {
	_, err := NewPool(Config{Cgroup: delegated(t, "cpu pids\n")})
	require.ErrorContains(t, err, "make pool of child processes: field Cgroup: control group")
	require.ErrorContains(t, err, "has no memory controller for groups in it")
	_, err = NewPool(Config{Cgroup: t.TempDir()})
	require.ErrorContains(t, err, "field Cgroup: look at control group")
}

func TestAChildHasAControlGroupOfItsOwn(t *testing.T) {
	dir := delegated(t, "cpu memory\n")
	groups, err := openCgroups(dir)
	require.NoError(t, err)
	first, err := groups.add()
	require.NoError(t, err)
	second, err := groups.add()
	require.NoError(t, err)
	require.NotEqual(t, first.dir.Name(), second.dir.Name())
	t.Cleanup(second.remove)

	var attr syscall.SysProcAttr
	first.put(&attr)
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
	require.NoError(t, first.limit(64<<20))
	require.Equal(t, "100663296", content("memory.max"))
	require.Equal(t, "0", content("memory.swap.max"))
	require.NoError(t, first.limit(0))
	require.Equal(t, "max", content("memory.max"))
	require.False(t, first.oomKilled())
	require.NoError(t, os.WriteFile(filepath.Join(first.dir.Name(), "memory.events"), []byte("low 0\noom 2\noom_kill 1\n"), 0o600))
	require.True(t, first.oomKilled())
	first.kill()
	require.Equal(t, "1", content("cgroup.kill"))
	require.ErrorContains(t, second.limit(1), "memory.max")
}

func TestWithoutControlGroupsNothingIsDone(t *testing.T) {
	var groups *cgroups
	group, err := groups.add()
	require.NoError(t, err)
	require.Nil(t, group)
	var attr syscall.SysProcAttr
	group.put(&attr)
	require.False(t, attr.UseCgroupFD)
	require.NoError(t, group.limit(1))
	require.False(t, group.oomKilled())
	group.kill()
	group.remove()
}
