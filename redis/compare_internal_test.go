package redis

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPastEndsAreForgottenByTimeAlone has a session that never renews, because its takes
// keep its leases, remember ends. Without a limit in time they would stay until there are
// too many.
func TestPastEndsAreForgottenByTimeAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const kept = 2 * time.Second
		ql := new(queueLease)
		var p finishLog
		ended := func(number int64) {
			bt := &batch{lease: ql, number: number, done: make([]bool, 2)}
			p.remember(&batchOutcomes{batch: bt, plain: []byte{0x80}, outcomes: []*outcome{
				{at: &receipt{batch: bt, index: 0}},
				{at: &receipt{batch: bt, index: 1}, record: "record", value: make([]byte, 1000)},
			}}, false, kept)
		}
		known := func() (numbers []int64) {
			for number := range int64(10) {
				for range p.of(ql, number) {
					numbers = append(numbers, number)
				}
			}
			return numbers
		}
		ended(1)
		each := p.bytes
		require.Greater(t, each, 1000)
		time.Sleep(kept / 2) // the bubble's clock
		ended(2)
		time.Sleep(kept / 2)
		ended(3)
		require.Equal(t, []int64{1, 2, 3}, known(), "none is older than what is kept")
		time.Sleep(time.Nanosecond)
		ended(4)
		require.Equal(t, []int64{2, 3, 4}, known())
		require.Equal(t, 3*each, p.bytes)
		time.Sleep(time.Hour)
		ended(5)
		require.Equal(t, []int64{5}, known())
		require.Equal(t, each, p.bytes)
	})
}
