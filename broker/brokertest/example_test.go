package brokertest_test

import (
	"testing"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/brokertest"
	"github.com/taskgen/taskgen/broker/memory"
)

// A broker's own test runs the suite. The function returns a new, empty broker for each
// of its tests.
func ExampleRun() {
	test := func(t *testing.T) { // TestContract of the broker's package
		brokertest.Run(t, func(t *testing.T) broker.Broker {
			b := memory.New()
			t.Cleanup(func() { b.Close() })
			return b
		})
	}
	_ = test
}
