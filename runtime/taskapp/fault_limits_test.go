//go:build !windows

package taskapp_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/internal/testapp/tasks"
)

// TestAKilledConsumersPlacesComeBack kills a consumer that holds every place
// that //task:concurrency has, two for each tenant in the whole fleet. Others
// have them once its lease has ended, and are never more at once.
func TestAKilledConsumersPlacesComeBack(t *testing.T) {
	t.Parallel() // it mostly waits
	const tenants, places, each = 4, 2, 15
	f := newFleet(t)
	var params []tasks.RecorderLimitedParams
	for n := range each {
		for i := range tenants {
			params = append(params, tasks.RecorderLimitedParams{Tenant: fmt.Sprint("tenant-", i), N: n})
		}
	}
	_, err := tasks.QueueRecorderLimitedBatch(f.ctx, params)
	require.NoError(t, err)

	victim := f.serve(time.Hour, "--concurrency", fmt.Sprint(tenants*places), "--consume")
	f.await("all places are held", func() bool { return len(f.limited("START")) == tenants*places })
	alive := []*process{f.serve(30*time.Millisecond, "--consume"), f.serve(30*time.Millisecond, "--consume")}
	// The victim has no slot left for runs without a limit, so a process that executes
	// them is up and has been past those that have one.
	f.await("the others are up", func() bool {
		f.queue(len(alive))
		busy := make(map[int]bool)
		for _, e := range f.events() {
			busy[e.pid] = true
		}
		return len(busy) == 1+len(alive)
	})
	require.Len(t, f.limited("START"), tenants*places, "starts while all places were held")

	f.noteKill(victim)
	require.Error(t, victim.end(syscall.SIGKILL))
	killed := time.Now()
	f.await("a place is free", func() bool { return len(f.limited("START")) > tenants*places })
	took := time.Since(killed)
	t.Logf("the first place came back %v after the kill", took)
	require.Less(t, took, 8*time.Second) // lease and two seconds, on a busy machine

	f.awaitCount(20*time.Second, func() int { return len(f.limited("END")) }, tenants*each)
	require.Empty(t, f.deadLetters())
	lost := f.lostLease(alive)
	again := requireRepeatsAreOf(t, f.events(), append(lost, victim.cmd.Process.Pid))
	if len(lost) == 0 { // for want of CPU time for a second
		require.Equal(t, tenants*places, again, "runs started again")
	}
	requireLimit(t, f.events(), places, lost)
}

// limited is how often each run that has a limit was started or has ended, by
// its id.
func (f *fleet) limited(what string) map[string]int {
	n := make(map[string]int)
	for _, e := range f.events() {
		if e.what == what && strings.HasPrefix(e.note, "tenant-") {
			n[e.id]++
		}
	}
	return n
}

// noteKill writes to the ledger that a process is about to be killed.
func (f *fleet) noteKill(p *process) {
	f.t.Helper()
	ledger, err := os.OpenFile(f.ledger, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(f.t, err)
	_, err = fmt.Fprintf(ledger, "KILL - - 0 %d\n", p.cmd.Process.Pid)
	require.NoError(f.t, err)
	require.NoError(f.t, ledger.Close())
}

// requireLimit checks that processes which live, but for those left out, never
// execute more than most runs of a tenant at once, and each tenant's as many as
// that after the kill too.
func requireLimit(t *testing.T, events []event, most int, without []int) {
	t.Helper()
	type holder struct {
		tenant string
		pid    int
	}
	held, highest, killed := map[string]holder{}, map[string]int{}, false // held by run
	for _, e := range events {
		switch {
		case slices.Contains(without, e.pid):
		case e.what == "KILL":
			killed = true
			for id, h := range held {
				if h.pid == e.pid {
					delete(held, id)
				}
			}
		case !strings.HasPrefix(e.note, "tenant-"):
		case e.what == "END":
			require.Contains(t, held, e.id, "END of a run that has ended already: %+v", e)
			delete(held, e.id)
		default:
			held[e.id] = holder{e.note, e.pid}
			n := 0
			for _, h := range held {
				if h.tenant == e.note {
					n++
				}
			}
			require.LessOrEqual(t, n, most, "at once: %v", held)
			if killed {
				highest[e.note] = max(highest[e.note], n)
			}
		}
	}
	for tenant, n := range highest {
		require.Equal(t, most, n, "at once of %s after the kill: a place is not used any more", tenant)
	}
	require.NotEmpty(t, highest)
}
