// Package cgroup gives each child process a Linux control group (v2) of its own.
//
// A group caps the memory of the child together with all processes that it starts,
// and kills them even if they have left its process group. On other systems there are
// no groups.
//
// A nil [Root] makes no groups, and the methods of a nil [Group] do nothing: callers
// need not ask whether there are groups.
package cgroup
