package tasktest

import "time"

// Crash has the process that takes the next run die before it starts the run. The run starts
// again once the lease has ended, after 10 seconds: see [Kit.Advance].
func (k *Kit) Crash() { k.broker.inject(func(b *testBroker) { b.crashes++ }) }

// DeliverTwice has the process that takes the next run lose its lease: the run is executed, the
// broker refuses its outcome, and the run is executed again once the lease has ended.
func (k *Kit) DeliverTwice() { k.broker.inject(func(b *testBroker) { b.loseLeases++ }) }

// LoseReply has the next call that queues runs return an error although they are queued.
func (k *Kit) LoseReply() { k.broker.inject(func(b *testBroker) { b.loseReply++ }) }

// Down has the broker fail for this long.
func (k *Kit) Down(d time.Duration) {
	k.broker.inject(func(b *testBroker) { b.downUntil = time.Now().Add(d) })
}

func (b *testBroker) inject(f func(*testBroker)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}
