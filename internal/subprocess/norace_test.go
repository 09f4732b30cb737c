//go:build linux && !race

package subprocess_test

// shadowed is how many bytes a process takes for each byte of heap.
const shadowed = 1
