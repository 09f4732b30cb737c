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

// part is an interface of the contract, and the checks of what it adds.
type part struct {
	name   string
	adds   string
	how    string   // to implement it
	needs  []string // the parts without which it cannot be tested
	has    func(b broker.Broker) bool
	checks []check

	unlisted bool // the report does not list it among those that a broker lacks
}

// parts returns the parts that the package doc of broker lists, and after them those of
// brokers with a server. A part comes after those that it needs.
func parts() []part {
	return []part{
		ofBroker[broker.Broker]("delivery at most once", nil,
			storingChecks, duplicateChecks, orderChecks, blockingChecks, delayChecks),
		ofBroker[broker.Leaser]("delivery at least once", nil,
			takeChecks, leaseChecks, recoverChecks, finishChecks, raceChecks),
		ofBroker[broker.Records]("results, status, waiting and dead letters", []string{"Leaser"},
			recordChecks, historyChecks, deadLetterChecks),
		ofSession[broker.Heartbeater]("progress, and cancelling runs that go on", []string{"Leaser", "Records"},
			heartbeatChecks),
		ofBroker[broker.Controls]("inspecting and operating queues", []string{"Records", "Heartbeater"},
			controlChecks, backlogChecks, cancelChecks, requeueChecks),
		ofBroker[broker.Policies]("what tasks ask for across all consumers", []string{"Leaser"}),
		ofPolicy("PolicyUnique", broker.PolicyUnique, "//task:unique", uniqueChecks),
		ofPolicy("PolicyLimits", broker.PolicyLimits, "//task:concurrency and //task:rate", limitChecks),
		ofPolicy("PolicyFair", broker.PolicyFair, "//task:fair", fairChecks),
		ofPolicy("PolicyNext", broker.PolicyNext, "runs that a success queues", nextChecks),
		ofBroker[broker.Groups]("runs after groups of runs", []string{"Leaser", "Records"}, groupChecks, groupNextChecks, nestingChecks),
		ofBroker[broker.Ticks]("ticks that are queued once", nil, tickChecks),
		ofBroker[broker.Clock]("finding schedulers with wrong clocks", []string{"Ticks"}, clockChecks),
		ofBroker[broker.ScheduleStore]("schedules made at run time", []string{"Ticks"}, scheduleChecks),

		ofBroker[broker.Searcher]("pages of runs and dead letters that match", []string{"Controls"}, searchChecks),
		ofBroker[broker.Changer]("changing all that match: cancel, run now, requeue, delete", []string{"Searcher"}, changeChecks),
		ofBroker[broker.Instances]("which consumers and schedulers are up", nil, instanceChecks),
		ofBroker[broker.Tallies]("counts and times of runs, for charts", nil, tallyChecks),

		unlisted(ofBroker[broker.RiskReporter]("", nil, riskChecks)),
		unlisted(ofSession[poison.Tracker]("", []string{"Leaser"}, beginChecks)),
		unlisted(ofSession[poison.Survivor]("", []string{"Leaser"}, survivorChecks)),
		unlisted(ofBroker[maintenance.Auditor]("", []string{"Leaser"}, auditChecks)),
	}
}

// ofBroker is a part that the broker itself implements.
func ofBroker[I any](adds string, needs []string, checks ...[]check) part {
	return part{
		name: reflect.TypeFor[I]().Name(), adds: adds, how: "implement " + methods[I]() + " of the broker",
		needs: needs, has: is[I], checks: slices.Concat(checks...),
	}
}

// ofSession is a part that the broker's sessions implement.
func ofSession[I any](adds string, needs []string, checks ...[]check) part {
	p := ofBroker[I](adds, needs, checks...)
	p.how, p.has = "implement "+methods[I]()+" of the broker's sessions", sessions[I]
	return p
}

// ofPolicy is a policy that the broker keeps.
func ofPolicy(name string, p broker.PolicySet, adds string, checks []check) part {
	return part{
		name: name, adds: adds, how: "have Policies return it",
		needs: []string{"Leaser", "Policies"}, has: keeps(p), checks: checks,
	}
}

func unlisted(p part) part {
	p.unlisted = true
	return p
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

// missing returns the parts that the broker lacks of those that one needs.
func (p *part) missing(b broker.Broker, all []part) (names []string) {
	for i := range all {
		if other := &all[i]; slices.Contains(p.needs, other.name) && (!other.has(b) || other.missing(b, all) != nil) {
			names = append(names, other.name)
		}
	}
	return names
}

// Run tests a broker against the contract: the part [broker.Broker] always, and each
// further part that the broker has, if it also has those that the part needs. Run logs
// the parts that the broker has and lacks, and how to implement those.
//
// open returns a new empty broker, and registers its own cleanup on the t it is
// given; Run calls it once for each subtest. The suite runs in real time, for
// some fifty seconds, and calls the broker from many goroutines at once.
func Run(t *testing.T, open func(t *testing.T) broker.Broker) {
	t.Helper()
	all := parts()
	t.Run("Opens", func(t *testing.T) { t.Log(report(open(t), all)) })
	for i := range all {
		p := &all[i]
		t.Run(p.name, func(t *testing.T) {
			b := open(t)
			if !p.has(b) {
				t.Skipf("%T does not have it", b)
			}
			if missing := p.missing(b, all); missing != nil {
				t.Skipf("%T does not have what it needs: %s", b, strings.Join(missing, ", "))
			}
			for _, c := range p.checks {
				t.Run(c.promise, func(t *testing.T) { c.test(newFixture(t, open(t))) })
			}
		})
	}
}

// report describes which parts a broker has, and how to implement the others.
func report(b broker.Broker, all []part) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%T and the parts of the contract, see package broker:", b)
	for i := range all {
		p := &all[i]
		missing := p.missing(b, all)
		switch {
		case p.has(b) && missing == nil:
			fmt.Fprintf(&text, "\n  has      %s", p.name)
		case p.has(b):
			fmt.Fprintf(&text, "\n  untested %s: it needs %s", p.name, strings.Join(missing, ", "))
		case p.unlisted:
		case missing == nil:
			fmt.Fprintf(&text, "\n  lacks    %s, for %s: %s", p.name, p.adds, p.how)
		default:
			fmt.Fprintf(&text, "\n  lacks    %s, for %s: it needs %s first", p.name, p.adds, strings.Join(missing, ", "))
		}
	}
	return text.String()
}
