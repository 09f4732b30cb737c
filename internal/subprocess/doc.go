// Package subprocess runs tasks in warm child processes of the running binary, so
// that any run can be stopped and a crash costs one run only.
//
// The parent's end is a [Pool]. It starts up to Config.Processes children on demand,
// keeps them warm, gives each one run at a time, and replaces those that have
// expired. The child's end is [Serve], which a child's main calls before it does
// anything else.
//
// # Protocol
//
// A child is the same binary, started again with one environment variable and an
// empty argument list. Parent and child exchange frames over two inherited pipes:
// descriptor 3 leads to the child and 4 to the parent. A frame is the length of its
// body in four bytes, big-endian, and its body. The body is a MessagePack array of
// the frame's type, the run's sequence number and the fields of the type.
//
// The parent logs the child's standard output and error line by line. A run costs one
// write and one read at each end. A short run needs no switch of goroutines at
// either.
//
// # How a run is stopped
//
// When the run's context ends, the handler's context is cancelled in the child. If no
// answer comes within Config.Grace, the parent asks the child by SIGQUIT for the
// stacks of its goroutines, which become part of the [ExitError]. Then SIGKILL ends
// its process group and every process below it in the tree. The run ends, and its
// slot becomes free, once the process is gone.
//
// A child leads its own process group, so a Ctrl-C in the terminal does not reach it.
// It ends when its parent does, with everything that it started. Until the child has
// reached Serve, the Linux kernel kills it; from then on it notices the end of
// descriptor 3.
//
// However a child ends, all processes that it started are killed: its process group,
// the tree of processes below it, its control group if it has one, and on Linux the
// processes that inherited its tag. The tag is a resource limit that Linux does not
// enforce. It survives a change of process group, session, parent and environment.
//
// # Orphans
//
// A child makes itself a subreaper: a process below it that loses its parent becomes
// the child's own. The same happens in a parent that is a subreaper or the first
// process of a container. Both wait for the processes that they adopt. They leave the
// processes that the application started to the application. The pool waits for the
// processes that an ended child has left. Packages orphan and cgroup have the
// details.
//
// # Systems
//
// Linux is complete. Four things cap a run's memory: the Go runtime's soft limit at
// nine tenths of the cap; the parent, which reads the child's resident size every 25
// ms and that of the processes below it every 100 ms; a limit on address space, for
// growth that is faster than that; and a control group if Config.Cgroup allows it.
// [Capabilities] names what the system offers, [Pool.Limits] what the last child has
// set.
//
// macOS has process groups, stacks, niceness and the soft limit. It does not have:
//
//   - resident sizes;
//   - the death of a child with its parent before the child has reached Serve, or
//     while it is stopped by a signal;
//   - the death of processes that have left the process group.
//
// On Windows and other systems, starting a child returns an error.
package subprocess
