// Package subprocess runs tasks in warm child processes of the running binary,
// so that a run can really be stopped and a crash costs one run only.
//
// The parent end is a [Pool]: it starts up to Config.Processes children on
// demand, keeps them warm, gives each one run at a time, and replaces those
// that are worn or have nothing to do. The child end is [Serve], which a
// child's main reaches before it does anything else.
//
// # How they talk
//
// A child is the same binary started again with one environment variable and
// an empty argument list. Parent and child talk in frames over two inherited
// pipes, descriptor 3 towards the child and 4 towards the parent. A frame is
// its body's length in four bytes, big-endian, and its body, a MessagePack
// array of the frame's type, the run's sequence number and the type's fields.
// Standard output and error are captured by line into the parent's log. A run
// costs one write and one read at each end and, if it is short, no switch of
// goroutines at either.
//
// # How a run is stopped
//
// When its context ends, for whatever reason, the handler's context is
// cancelled in the child. Without an answer within Config.Grace the child is
// asked once by SIGQUIT for the stacks of its goroutines, which become part of
// the [ExitError], and then SIGKILL ends its process group and what is below it
// in the tree of processes. The run is over, and its place free, only when the
// process is gone.
//
// A child leads a process group of its own: a Ctrl-C in the terminal does not
// reach it. It ends when its parent does, and takes along what it started: on
// Linux the kernel kills it until it has reached Serve; from there on the end
// of descriptor 3 tells it.
//
// However a child ends, all that it has started is killed: its group, what is
// below it in the tree of processes, what is in its control group if it has one,
// and on Linux what has inherited its tag. That is a limit of the system without
// a meaning; it survives a change of group, session, parent and environment.
//
// # Who waits for orphans
//
// A child makes itself a subreaper, so what loses its parent below it becomes its
// own; the same happens to a parent that is the first process of a container or a
// subreaper. Both wait for what they adopt so, and leave to the application what
// it has started itself. The pool waits for what a child has left.
//
// # What holds where
//
// Linux is complete. A run's cap on memory is the Go runtime's soft limit at
// nine tenths of it, the parent's look at the resident size every 25 ms and at
// that of what the run has started every 100 ms, a limit on address space for
// what outruns that, and a control group's if Config.Cgroup has them.
// [Capabilities] names what there is, [Pool.Limits] what the last child has
// set.
//
// macOS has process groups, stacks, niceness and the soft limit alone: the
// resident size is not read, a child that has not reached Serve outlives a
// killed parent, one that is stopped outlives it until it is continued, and
// what leaves the group is out of reach. On Windows and elsewhere starting a
// child returns an error.
package subprocess
