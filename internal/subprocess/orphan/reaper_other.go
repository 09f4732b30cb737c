//go:build !linux

package orphan

import "runtime"

func Adopts() bool { return false }

type Reaper struct{}

func Start(begun func()) *Reaper { return nil }

func (*Reaper) End() {}

func OffFirstThread(work func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	work()
}
