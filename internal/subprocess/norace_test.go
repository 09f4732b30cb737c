//go:build linux && !race

package subprocess_test

// shadowed is how many bytes a process has for each of its heap.
const shadowed = 1
