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
			require.ErrorContains(t, r.Err(), "digits, more than 10000", key)
			require.Less(t, time.Since(start), time.Second)
		}
	}
	n, _ := new(big.Int).SetString(digits[:codec.MaxDigits+1], 10)
	_, err := (&DenseParams{Big: []*big.Int{n}}).AppendMsgpack(nil)
	require.ErrorContains(t, err, "digits, more than 10000")
	n, _ = new(big.Int).SetString(digits[:codec.MaxDigits], 10)
	_, err = (&DenseParams{Big: []*big.Int{n}}).AppendMsgpack(nil)
	require.NoError(t, err)
}

// bitmap is text that only looks like a number.
type bitmap struct{ set string }

func (b bitmap) MarshalText() ([]byte, error)     { return []byte(b.set), nil }
func (b *bitmap) UnmarshalText(text []byte) error { b.set = string(text); return nil }

// decimal is a number with one of any size in it.
type decimal struct{ value *big.Int }

func (d decimal) MarshalText() ([]byte, error) { return d.value.MarshalText() }
func (d *decimal) UnmarshalText(text []byte) error {
	d.value = new(big.Int)
	return d.value.UnmarshalText(text)
}

// TestDigitsThatAreNoNumber are read and written however many they are, unless
// the type makes a number of them.
func TestDigitsThatAreNoNumber(t *testing.T) {
	text := strings.Repeat("01", codec.MaxDigits)
	b, err := codec.AppendText(nil, bitmap{text})
	require.NoError(t, err)
	var read bitmap
	r := codec.NewReader(b)
	codec.ReadText(r, &read)
	require.NoError(t, r.Done())
	require.Equal(t, text, read.set)

	var number decimal
	r = codec.NewReader(b)
	codec.ReadText(r, &number)
	require.ErrorContains(t, r.Err(), "digits, more than 10000")
	value, _ := new(big.Int).SetString("1"+text, 10)
	_, err = codec.AppendText(nil, decimal{value: value})
	require.ErrorContains(t, err, "digits, more than 10000")
}

// TestManyLargePatterns checks that the size of compiled regular expressions is
// charged before they are compiled.
func TestManyLargePatterns(t *testing.T) {
	for pattern, n := range map[string]int{
		`(a{30}){30}`: 2000, `^\pL{900}$`: 40, `\pL\PL\p{Lu}`: 4000, `(?i)[A-\x{1e943}][é-я]`: 4000, `[a][b][c][d]`: 30_000, `(a|b)?`: 60_000,
	} {
		var p DenseParams
		r := codec.NewReader(filters(n, pattern))
		start := time.Now()
		used := allocated(func() { p.ReadMsgpack(r) })
		require.ErrorContains(t, r.Err(), "of memory", pattern)
		require.LessOrEqual(t, used, uint64(2*codec.MemoryFactor<<20), pattern)
		require.Less(t, time.Since(start), 10*time.Second, pattern)
	}
}

// filters returns parameters with n regular expressions.
func filters(n int, pattern string) []byte {
	b := append(codec.AppendString([]byte{0x81}, "patterns"), 0xdc, byte(n>>8), byte(n))
	for range n {
		b = codec.AppendString(b, pattern)
	}
	return b
}
