package codectest

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

// TestLongNumbers: to read a number takes time that grows with the square of
// its digits, so they are bounded, in both directions, with an error that names
// the bound.
func TestLongNumbers(t *testing.T) {
	digits := strings.Repeat("7", 1<<20)
	for _, key := range []string{"big", "ratios", "reals", "amounts"} {
		for _, text := range []string{digits, "-" + digits, "0." + digits} {
			var p DenseParams
			b := codec.AppendString([]byte{0x81}, key)
			r := codec.NewReader(append(append(b, 0x91), codec.AppendString(nil, text)...))
			start := time.Now()
			p.ReadMsgpack(r)
			require.ErrorContains(t, r.Err(), "digits, at most 10000 are read", key)
			require.Less(t, time.Since(start), time.Second)
		}
	}
	n, _ := new(big.Int).SetString(digits[:codec.MaxDigits+1], 10)
	_, err := (&DenseParams{Big: []*big.Int{n}}).AppendMsgpack(nil)
	require.ErrorContains(t, err, "digits, at most 10000 are read")
	n, _ = new(big.Int).SetString(digits[:codec.MaxDigits], 10)
	_, err = (&DenseParams{Big: []*big.Int{n}}).AppendMsgpack(nil)
	require.NoError(t, err)
}
