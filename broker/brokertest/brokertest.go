// Package brokertest is the contract of package broker as a test suite that
// any broker runs:
//
//	func TestContract(t *testing.T) {
//		brokertest.Run(t, func(t *testing.T) broker.Broker {
//			b := mine.Open(…)
//			t.Cleanup(func() { b.Close() })
//			return b
//		})
//	}
//
// Each subtest is named for the promise it checks.
package brokertest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/broker/maintenance"
	"github.com/taskgen/taskgen/internal/poison"
)

// check is one promise and the test of it.
type check struct {
	promise string
	test    func(f *fixture)
}

// part is the checks of one interface.
type part struct {
	name   string
	has    func(b broker.Broker) bool
	checks []check
}

func parts() []part {
	return []part{
		{"Broker", func(broker.Broker) bool { return true }, slices.Concat(
			storingChecks(), duplicateChecks(), orderChecks(), blockingChecks(), delayChecks())},
		{"Leaser", is[broker.Leaser], slices.Concat(
			takeChecks(), leaseChecks(), recoverChecks(), finishChecks(), raceChecks())},
		{"poison.Tracker", sessions[poison.Tracker], beginChecks()},
		{"poison.Survivor", sessions[poison.Survivor], survivorChecks()},
		{"Records", func(b broker.Broker) bool { return is[broker.Leaser](b) && is[broker.Records](b) },
			slices.Concat(recordChecks(), deadLetterChecks())},
		{"Ticks", is[broker.Ticks], tickChecks()},
		{"ScheduleStore", is[broker.ScheduleStore], scheduleChecks()},
		{"Clock", func(b broker.Broker) bool { return is[broker.Clock](b) && is[broker.Ticks](b) }, clockChecks()},
		{"Policies, unique", keeps(broker.PolicyUnique), uniqueChecks()},
		{"Policies, limits", keeps(broker.PolicyLimits), limitChecks()},
		{"Policies, fair", keeps(broker.PolicyFair), fairChecks()},
		{"Policies, next", keeps(broker.PolicyNext), nextChecks()},
		{"Auditor", func(b broker.Broker) bool { return is[maintenance.Auditor](b) && is[broker.Leaser](b) }, auditChecks()},
		{"Groups", func(b broker.Broker) bool {
			return is[broker.Groups](b) && is[broker.Leaser](b) && is[broker.Records](b)
		}, groupChecks()},
		{"Heartbeater", hasHeartbeat, heartbeatChecks()},
		{"Controls", func(b broker.Broker) bool {
			return is[broker.Controls](b) && is[broker.Records](b) && hasHeartbeat(b)
		}, slices.Concat(controlChecks(), cancelChecks(), requeueChecks())},
	}
}

// keeps returns whether a broker keeps a policy. Policies are tested through leases.
func keeps(p broker.Policy) func(broker.Broker) bool {
	return func(b broker.Broker) bool {
		kept, ok := b.(broker.Policies)
		return ok && kept.Policies()&p == p && is[broker.Leaser](b)
	}
}

// sessions reports whether the broker's sessions have an interface.
func sessions[I any](b broker.Broker) bool {
	l, ok := b.(broker.Leaser)
	if !ok {
		return false
	}
	s, err := l.Join(context.Background(), longHold)
	if err != nil {
		return false
	}
	_, ok = s.(I)
	return ok && s.Leave(context.Background()) == nil
}

// hasHeartbeat reports whether the broker's sessions are Heartbeaters, and it has
// records for what they are told.
func hasHeartbeat(b broker.Broker) bool {
	l, ok := b.(broker.Leaser)
	if !ok || !is[broker.Records](b) {
		return false
	}
	s, err := l.Join(context.Background(), longHold)
	if err != nil {
		return false
	}
	_, ok = s.(broker.Heartbeater)
	return ok && s.Leave(context.Background()) == nil
}

func is[I any](b broker.Broker) bool {
	_, ok := b.(I)
	return ok
}

// Run tests a broker against the contract: the core part always, and those of
// [broker.Leaser], [broker.Records], [broker.Ticks],
// [broker.ScheduleStore], [broker.Clock], [broker.Policies], [maintenance.Auditor], [broker.Groups],
// [broker.Heartbeater] and [broker.Controls] where the broker or its sessions have the
// interface. All but the schedules' and the clock's are tested through leases, the clock's
// through schedules, and the last three through records, so a broker without these is not
// tested for them. It logs which parts ran.
//
// open returns a new empty broker, and registers its own cleanup on the t it is
// given; it is called once for each subtest. The suite runs in real time, for
// some fifty seconds, and calls the broker from many goroutines at once.
func Run(t *testing.T, open func(t *testing.T) broker.Broker) {
	t.Helper()
	t.Run("Opens", func(t *testing.T) {
		b := open(t)
		var ran, left []string
		for _, p := range parts() {
			if p.has(b) {
				ran = append(ran, p.name)
			} else {
				left = append(left, p.name)
			}
		}
		t.Logf("%T: parts that run: %s; parts it does not have: %s",
			b, strings.Join(ran, ", "), orNone(left))
	})
	for _, p := range parts() {
		t.Run(p.name, func(t *testing.T) {
			if b := open(t); !p.has(b) {
				t.Skipf("%T does not have it", b)
			}
			for _, c := range p.checks {
				t.Run(c.promise, func(t *testing.T) { c.test(newFixture(t, open(t))) })
			}
		})
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
