package broker_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

func TestThisHost(t *testing.T) {
	name, err := os.Hostname()
	require.NoError(t, err)
	host := broker.ThisHost()
	require.Equal(t, name+":"+strconv.Itoa(os.Getpid()), host)
	require.LessOrEqual(t, len(host), broker.MaxHost)
}
