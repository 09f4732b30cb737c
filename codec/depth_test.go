package codec_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/codec"
)

func TestCheckDepth(t *testing.T) {
	require.NoError(t, codec.CheckDepth(0))
	require.NoError(t, codec.CheckDepth(codec.MaxDepth-1))
	require.EqualError(t, codec.CheckDepth(codec.MaxDepth), "encode value: nested more than 64 deep")
}
