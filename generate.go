// Package taskgen turns plain Go functions into typed background tasks.
//
// A function marked with a //task: comment gets a typed stub that queues runs of it,
// written by the command [github.com/taskgen/taskgen/cmd/taskgen]. Package
// [github.com/taskgen/taskgen/runtime] executes the runs, with a broker as described
// by [github.com/taskgen/taskgen/broker]. Start with README.md.
package taskgen

//go:generate go tool taskgen ./examples/... ./internal/testapp/desk ./internal/testapp/tasks ./internal/testapp/trees ./internal/codectest
//go:generate go tool taskgen -test ./examples/signup/tasks ./examples/directory/tasks
//go:generate go tool taskgen ./examples/deploys/testdata/before
//go:generate go tool taskgen ./internal/testapp/skew/v1
//go:generate go tool taskgen ./internal/testapp/skew/v2
