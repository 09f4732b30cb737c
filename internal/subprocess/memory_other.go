//go:build !linux

package subprocess

// Sizes cannot be told here.

func residentSize(int) int64 { return 0 }

func sizeBelow(int) int64 { return 0 }

func ownSize() (resident, data int64) { return 0, 0 }

func peakSize(int) int64 { return 0 }

func oomKills() int64 { return 0 }

func nearFileLimit(int) bool { return false }
