package broker_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// TestMember reads the group of a run that is cut off anywhere, and never
// another place than its own.
func TestMember(t *testing.T) {
	for _, place := range []int{0, 7, broker.MaxGroup - 1} {
		r := full()
		r.Links.Member = place
		r.Payload = []byte(strings.Repeat("p", 100))
		b, err := r.MarshalBinary()
		require.NoError(t, err)
		for n := range len(b) + 1 {
			queue, group, member, ok := new(broker.Decoder).Member(b[:n])
			if n > len(b)-100 {
				require.True(t, ok, "found in the first %d of %d bytes", n, len(b))
			}
			if ok {
				require.Equal(t, "group", group, "group in the first %d bytes", n)
				require.Equal(t, r.GroupQueue(), queue, "its queue in the first %d bytes", n)
				require.Equal(t, place, member, "place in the first %d bytes", n)
			}
		}
		b[0]++
		_, _, member, ok := new(broker.Decoder).Member(b)
		require.True(t, ok, "of a newer version")
		require.Equal(t, place, member)
	}
	for name, b := range map[string]string{
		"nothing":                   "",
		"no map":                    "\x01\x90",
		"no member":                 "\x01\x82\xa1t\xa1t\xa1q\xa1q",
		"a place beyond all":        "\x01\x82\xa1w\xa1g\xa1v\xcd\x27\x10",
		"a place before all":        "\x01\x82\xa1w\xa1g\xa1v\xff",
		"a group of no name":        "\x01\x82\xa1w\xa3a b\xa1v\x01",
		"a group of a long name":    "\x01\x82\xa1w\xda\x00\xc9" + strings.Repeat("g", 201) + "\xa1v\x01",
		"a place that is cut off":   "\x01\x83\xa1w\xa1g\xa1b\xc4\x09",
		"4 GiB of a name":           "\x01\x82\xa1w\xdb\xff\xff\xff\xff",
		"4 GiB of pairs, and a cut": "\x01\xdf\xff\xff\xff\xff\xa1w\xa1g",
	} {
		_, _, _, ok := new(broker.Decoder).Member([]byte(b))
		require.False(t, ok, name)
	}
}

func TestEnvelopeOfANewerVersion(t *testing.T) {
	good := "\x83\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q"
	for version, newer := range map[byte]bool{0: false, 2: true, 31: true, 32: false, 'x': false} {
		err := new(broker.TaskRun).UnmarshalBinary([]byte(string(version) + good))
		require.Error(t, err, "version %d", version)
		require.Equal(t, newer, strings.Contains(err.Error(), broker.ErrNewer.Error()), "version %d is a newer one: %v", version, err)
		if newer {
			require.ErrorIs(t, err, broker.ErrNewer)
		}
	}
	next := "\x01\x84\xa1i\xa1i\xa1t\xa1t\xa1q\xa1q\xa1s\x93\xa0\xc2\xc4" + string(byte(1+len(good))) + "\x02" + good
	require.ErrorIs(t, new(broker.TaskRun).UnmarshalBinary([]byte(next)), broker.ErrNewer, "what follows is of a newer version")
}
