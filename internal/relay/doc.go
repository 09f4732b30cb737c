// Package relay lets a run in a child process queue, wait and cancel: the parent
// does it with its own broker.
//
// A child so needs no connection, and every broker works in it. Parent and child are
// the same program, so what travels between them needs no versions.
package relay
