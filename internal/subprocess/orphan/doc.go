// Package orphan waits for the processes that this one adopts.
//
// On Linux, a process whose parent has ended becomes the child of the nearest subreaper
// above it, or of the first process of its namespace, such as a container's. Nobody
// else waits for it then, and it would stay a zombie. Elsewhere orphans go to the first
// process of the system, and this package does nothing.
package orphan
