//go:build !linux

package subprocess

import "runtime"

// Orphans go to the first process of the system here.

func adopts() bool { return false }

type reaper struct{}

func startReaper() *reaper { return nil }

func (*reaper) end() {}

func offFirstThread(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	work()
}
