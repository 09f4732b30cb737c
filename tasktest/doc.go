// Package tasktest is the test kit: it runs tasks in a test, without Redis, ports, files or
// globals. Runs pass through the codec, the policies and the middleware on the embedded broker.
//
// taskgen -test writes a package beside the tasks that wraps a [Kit] with a typed [Task] for
// each of them. Only tests import either package.
package tasktest
