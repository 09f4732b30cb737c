// Package subprocess runs tasks in warm child processes of the running binary,
// so that a run can really be stopped and a crash costs one run only.
//
// The parent end is a [Pool]: it starts up to Config.Processes children on
// demand, keeps them, and gives each one run at a time. The child end is
// [Serve], which a child's main reaches before it does anything else.
//
// A child is the same binary started again with one environment variable and
// an empty argument list. Parent and child talk in frames over two inherited
// pipes, descriptor 3 towards the child and 4 towards the parent. A frame is
// its body's length in four bytes, big-endian, and its body, a MessagePack
// array of the frame's type, the run's sequence number and the type's fields.
// Standard output and error are captured by line into the parent's log.
//
// A child leads a process group of its own: a Ctrl-C in the terminal does not
// reach it, and whatever it started can be killed with it. It ends when its
// parent does: on Linux the kernel kills it until it has reached Serve; from
// there on the end of descriptor 3 makes it kill its own group, so that the
// processes it started go too. A process that left the group (setsid) escapes.
//
// A run may be given a cap on its child's memory: the pool reads the resident
// size every 25 ms and kills what stays beyond it.
//
// Linux is complete. Elsewhere the resident size is not read, so there is no
// cap. Other Unix systems lack the parent-death signal, so a
// child that has not reached Serve outlives a killed parent, and one that is
// stopped outlives it until it is continued. On Windows starting a child
// returns an error.
package subprocess
