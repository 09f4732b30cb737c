// Package desk has the tasks of a front desk, which tests queue and watch in a browser: typed
// parameters of many kinds, a run that goes on until it is let go, and failures with and
// without a stack.
package desk

import (
	"context"
	"fmt"
	"strings"
	"time"

	taskrt "github.com/taskgen/taskgen/runtime"
)

// Desk is the receiver of tasks that wait.
type Desk struct {
	Open chan struct{} // closed: no Hold goes on
}

// Address is where a guest lives.
type Address struct {
	Street, City string
	Floor        *int
}

// GreetGuest greets a guest so many times. It fails for a guest called nobody, and panics for one
// called boom.
//
//task:io
//task:queue guests
//task:retry 0
//task:result 1h params
//task:secret pin
//task:default pause 0s
//task:default tags nil
//task:default pin ""
//task:tags guests desk
func GreetGuest(ctx context.Context, name string, times int64, at time.Time, pause time.Duration, to Address, tags []string, pin string) (string, error) {
	switch name {
	case "nobody":
		return "", fmt.Errorf("greet %s in %s: there is nobody of this name", name, to.City)
	case "boom":
		floors[to.City]++
	}
	return strings.TrimSpace(strings.Repeat("hello "+name+" ", int(times))), nil
}

// floors are those of each city. Nobody has made it.
var floors map[string]int

// Hold goes on until the desk is open, and says how far it is: two of a label at once.
//
//task:io
//task:queue lobby
//task:concurrency 2 by=label
//task:retry 0
//task:timeout 10m
//task:result 1h params
func (d *Desk) Hold(ctx context.Context, label string) error {
	taskrt.Progress(ctx, 1, 2, "waiting for "+label)
	select {
	case <-d.Open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Letter is one of many, two at once for each street.
//
//task:io
//task:queue letters
//task:concurrency 2 by=street
func Letter(ctx context.Context, street string, number int) error { return nil }

// Measure counts the letters of a text.
//
//task:io
//task:queue guests
//task:result 1h params
func Measure(ctx context.Context, text string) (int, error) { return len(text), nil }

// AddUp adds counts up.
//
//task:io
//task:queue guests
//task:result 1h params
func AddUp(ctx context.Context, counts []int, title string) (string, error) {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	return fmt.Sprint(title, ": ", sum), nil
}

// SweepLobby sweeps the lobby each night.
//
//task:io
//task:queue lobby
//task:cron "30 2 * * *" tz=Europe/Berlin
func SweepLobby(ctx context.Context) error { return nil }
