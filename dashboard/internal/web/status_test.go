package web

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/taskgen/taskgen/broker"
)

// What was not found may be where nothing could be read.
func TestAnOutageIsNotThatSomethingIsMissing(t *testing.T) {
	missing := fmt.Errorf("no run: %w", broker.ErrNoRecord)
	require.Equal(t, http.StatusNotFound, statusOf(missing))
	require.Equal(t, http.StatusServiceUnavailable, statusOf(fmt.Errorf("%w; skipped: %w", missing, broker.ErrUnavailable)))
	require.Equal(t, http.StatusNotFound, statusOf(fmt.Errorf("%w; skipped: %w", missing, errors.New("a wrong type"))))
}
