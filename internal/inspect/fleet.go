package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/taskgen/taskgen/broker"
	"github.com/taskgen/taskgen/internal/fleet"
)

// Fleet is a broker that is inspected and operated. Its methods may be called concurrently.
type Fleet struct {
	Broker   broker.Broker
	Controls broker.Controls
	Records  broker.Records

	own []string // queues of the program's tasks, sorted
}

// New returns the fleet of a broker. own are the queues that the program knows by itself.
func New(b broker.Broker, own []string) (*Fleet, error) {
	if b == nil {
		return nil, errors.New("the broker is nil")
	}
	f := &Fleet{Broker: b, own: slices.Compact(slices.Sorted(slices.Values(own)))}
	var ok bool
	if f.Records, ok = b.(broker.Records); !ok {
		return nil, Missing("broker.Records", "its runs cannot be shown")
	}
	if f.Controls, ok = b.(broker.Controls); !ok {
		return nil, Missing("broker.Controls", "it cannot be inspected")
	}
	return f, nil
}

// Missing returns the error of a broker without a part of the contract.
func Missing(part, so string) error {
	return fmt.Errorf("this broker has no %s, so %s", part, so)
}

func (f *Fleet) searcher() (broker.Searcher, error) {
	if s, ok := f.Broker.(broker.Searcher); ok {
		return s, nil
	}
	return nil, Missing("broker.Searcher", "its runs and dead letters cannot be searched")
}

func (f *Fleet) changer() (broker.Changer, error) {
	if c, ok := f.Broker.(broker.Changer); ok {
		return c, nil
	}
	return nil, Missing("broker.Changer", "all that match cannot be changed at once")
}

// Look begins a look into some queues, or into all that are known if none is named. If not
// all names can be read it goes on with the others, and skips the rest. The error is ctx's.
func (f *Fleet) Look(ctx context.Context, queues ...string) (*Look, error) {
	l := &Look{fleet: f}
	if len(queues) > 0 {
		l.Queues = slices.Compact(slices.Sorted(slices.Values(queues)))
		for _, name := range l.Queues {
			if err := CheckQueueName(name); err != nil {
				return nil, err
			}
		}
		return l, nil
	}
	names, err := fleet.Names(ctx, f.Broker)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, err
	case err != nil && names == nil:
		l.skip("", err)
	}
	l.Queues = append(names, f.own...)
	slices.Sort(l.Queues)
	l.Queues = slices.Compact(l.Queues)
	return l, nil
}

// CheckQueueName refuses a name that no queue can have.
func CheckQueueName(name string) error { return fleet.CheckName(name) }
