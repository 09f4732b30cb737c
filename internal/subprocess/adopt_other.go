//go:build !linux

package subprocess

import "runtime"

// Orphans go to the first process of the system here.

func adopts() bool { return false }

type reaper struct{}

func startReaper(func()) *reaper { return nil }

func (*reaper) end() {}

func outliveParent() {}

func offFirstThread(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	work()
}
