//go:build linux && race

package subprocess_test

// shadowed is how many bytes a process takes for each byte of heap: the race detector
// keeps a shadow and does not release it.
const shadowed = 6
