//go:build linux && race

package subprocess_test

// shadowed is how many bytes a process has for each of its heap: the race
// detector keeps a shadow, and does not give it back.
const shadowed = 6
