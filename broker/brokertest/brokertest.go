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
	"fmt"
	"reflect"
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

// step is an interface of the contract, and the checks of what it adds.
type step struct {
	name   string
	adds   string
	how    string   // to implement it
	needs  []string // the steps without which it cannot be tested
	has    func(b broker.Broker) bool
	checks []check

	extra bool // it is no part of the contract
}

// steps returns the ladder of the package doc of broker, and after it what few brokers
// have. A step comes after those that it needs.
func steps() []step {
	return []step{
		ofBroker[broker.Broker]("delivery at most once", nil,
			storingChecks(), duplicateChecks(), orderChecks(), blockingChecks(), delayChecks()),
		ofBroker[broker.Leaser]("delivery at least once", nil,
			takeChecks(), leaseChecks(), recoverChecks(), finishChecks(), raceChecks()),
		ofBroker[broker.Records]("results, status, waiting and dead letters", []string{"Leaser"},
			recordChecks(), deadLetterChecks()),
		ofSession[broker.Heartbeater]("progress, and cancelling runs that go on", []string{"Leaser", "Records"},
			heartbeatChecks()),
		ofBroker[broker.Controls]("inspecting and operating queues", []string{"Records", "Heartbeater"},
			controlChecks(), cancelChecks(), requeueChecks()),
		ofBroker[broker.Policies]("what tasks ask for across all consumers", []string{"Leaser"}),
		ofPolicy("PolicyUnique", broker.PolicyUnique, "//task:unique", uniqueChecks()),
		ofPolicy("PolicyLimits", broker.PolicyLimits, "//task:concurrency and //task:rate", limitChecks()),
		ofPolicy("PolicyFair", broker.PolicyFair, "//task:fair", fairChecks()),
		ofPolicy("PolicyNext", broker.PolicyNext, "runs that a success queues", nextChecks()),
		ofBroker[broker.Groups]("runs after groups of runs", []string{"Leaser", "Records"}, groupChecks()),
		ofBroker[broker.Ticks]("ticks that are queued once", nil, tickChecks()),
		ofBroker[broker.Clock]("finding schedulers with wrong clocks", []string{"Ticks"}, clockChecks()),
		ofBroker[broker.ScheduleStore]("schedules made at run time", []string{"Ticks"}, scheduleChecks()),

		extra(ofSession[poison.Tracker]("", []string{"Leaser"}, beginChecks())),
		extra(ofSession[poison.Survivor]("", []string{"Leaser"}, survivorChecks())),
		extra(ofBroker[maintenance.Auditor]("", []string{"Leaser"}, auditChecks())),
	}
}

// ofBroker is a step that the broker itself implements.
func ofBroker[I any](adds string, needs []string, checks ...[]check) step {
	return step{
		name: reflect.TypeFor[I]().Name(), adds: adds, how: "implement " + methods[I]() + " of the broker",
		needs: needs, has: is[I], checks: slices.Concat(checks...),
	}
}

// ofSession is a step that the broker's sessions implement.
func ofSession[I any](adds string, needs []string, checks ...[]check) step {
	s := ofBroker[I](adds, needs, checks...)
	s.how, s.has = "implement "+methods[I]()+" of the broker's sessions", sessions[I]
	return s
}

// ofPolicy is a policy that the broker keeps.
func ofPolicy(name string, p broker.PolicySet, adds string, checks []check) step {
	return step{
		name: name, adds: adds, how: "have Policies return it",
		needs: []string{"Leaser", "Policies"}, has: keeps(p), checks: checks,
	}
}

func extra(s step) step {
	s.extra = true
	return s
}

// methods lists the methods of an interface.
func methods[I any]() string {
	t := reflect.TypeFor[I]()
	var names []string
	for i := range t.NumMethod() {
		names = append(names, t.Method(i).Name)
	}
	return strings.Join(names, ", ")
}

func is[I any](b broker.Broker) bool {
	_, ok := b.(I)
	return ok
}

// sessions reports whether the broker's sessions have an interface.
func sessions[I any](b broker.Broker) bool {
	l, ok := b.(broker.Leaser)
	if !ok {
		return false
	}
	s, err := l.OpenSession(context.Background(), longHold)
	if err != nil {
		return false
	}
	_, ok = s.(I)
	return ok && s.Close(context.Background()) == nil
}

// keeps returns whether a broker keeps a policy.
func keeps(p broker.PolicySet) func(broker.Broker) bool {
	return func(b broker.Broker) bool {
		kept, ok := b.(broker.Policies)
		return ok && kept.Policies()&p == p
	}
}

// missing returns the steps that the broker lacks of those that one needs.
func (s *step) missing(b broker.Broker, all []step) (names []string) {
	for i := range all {
		if other := &all[i]; slices.Contains(s.needs, other.name) && (!other.has(b) || other.missing(b, all) != nil) {
			names = append(names, other.name)
		}
	}
	return names
}

// Run tests a broker against the contract: the step [broker.Broker] always, and each
// further one that the broker has, if it also has those that the step needs. It logs
// the steps that the broker has and lacks, and how to implement those.
//
// open returns a new empty broker, and registers its own cleanup on the t it is
// given; Run calls it once for each subtest. The suite runs in real time, for
// some fifty seconds, and calls the broker from many goroutines at once.
func Run(t *testing.T, open func(t *testing.T) broker.Broker) {
	t.Helper()
	all := steps()
	t.Run("Opens", func(t *testing.T) { t.Log(report(open(t), all)) })
	for i := range all {
		s := &all[i]
		t.Run(s.name, func(t *testing.T) {
			b := open(t)
			if !s.has(b) {
				t.Skipf("%T does not have it", b)
			}
			if missing := s.missing(b, all); missing != nil {
				t.Skipf("%T does not have what it needs: %s", b, strings.Join(missing, ", "))
			}
			for _, c := range s.checks {
				t.Run(c.promise, func(t *testing.T) { c.test(newFixture(t, open(t))) })
			}
		})
	}
}

// report describes which steps a broker has, and how to implement the others.
func report(b broker.Broker, all []step) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%T and the steps of the contract, see package broker:", b)
	for i := range all {
		s := &all[i]
		missing := s.missing(b, all)
		switch {
		case s.has(b) && missing == nil:
			fmt.Fprintf(&text, "\n  has      %s", s.name)
		case s.has(b):
			fmt.Fprintf(&text, "\n  untested %s: it needs %s", s.name, strings.Join(missing, ", "))
		case s.extra:
		case missing == nil:
			fmt.Fprintf(&text, "\n  lacks    %s, for %s: %s", s.name, s.adds, s.how)
		default:
			fmt.Fprintf(&text, "\n  lacks    %s, for %s: it needs %s first", s.name, s.adds, strings.Join(missing, ", "))
		}
	}
	return text.String()
}
