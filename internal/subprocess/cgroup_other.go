//go:build !linux

package subprocess

import (
	"errors"
	"syscall"
)

// Control groups are Linux's.

type cgroups struct{}

type cgroup struct{}

func openCgroups(path string) (*cgroups, error) {
	if path != "" {
		return nil, errors.New("field Cgroup: there are no control groups on this system")
	}
	return nil, nil
}

func (*cgroups) add() (*cgroup, error) { return nil, nil }

func (*cgroup) put(*syscall.SysProcAttr) {}

func (*cgroup) limit(int64) error { return nil }

func (*cgroup) oomKilled() bool { return false }

func (*cgroup) kill() {}

func (*cgroup) remove() {}
