// Package script has the Lua scripts of the Redis broker. Beside each script a Go file makes
// its KEYS and ARGV and parses its reply.
//
// # Names
//
// A script names its keys and arguments, such as K.delayed and A.session. Load replaces them
// by KEYS[1] and ARGV[1], in the order of the Go function that makes the keys and of the fields
// of the struct that has the arguments. It returns an error if a script has another name, or
// does not use one of these. OP.<NAME> stands for the letter of an operation. INDEX.<NAME>
// stands for an index that is of no single run. A line "-- include <file>" stands for the text
// of a file in include/. nextKey and nextArg read the keys and arguments behind those with
// names, in turn (include/read.lua).
//
// # Errors
//
// Redis does not roll back a script that fails. So each script
//   - adds a run where it goes before it removes the run where it was, and after all else
//     that it notes of the run;
//   - takes back what it has done, if a later command fails;
//   - can be executed again after an error.
//
// # Changing a script
//
// Its header lists KEYS, ARGV and the reply. docs/wire.md says the same, for programs in other
// languages: change both, and testdata/wire if its programs call the script. A command that no
// script has called before is added to the rights in internal/redistest/rights.go, and to
// those in docs/wire.md. TestNoRunIsLostToAnErrorOfAScript of package redis lets each command
// of each script fail in turn. `make lint` runs luacheck over the scripts as they are sent;
// package print writes these to a folder.
package script
