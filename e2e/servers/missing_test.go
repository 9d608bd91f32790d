package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-namedlock/namedlock/internal/lateness"
)

// If a busy machine does not start a server in time, the test has not failed.
// If a server hangs on a free machine, it has.
func TestNoAnswer(t *testing.T) {
	refused := errors.New("connection refused")
	after := func(d time.Duration) error {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(&lateness.TimeoutError{Limit: startTimeout, After: d})
		return fmt.Errorf("start: %w", noAnswer(ctx, MySQL, refused))
	}
	err := after(startTimeout)
	var busy *BusyError
	require.False(t, errors.As(err, &busy))
	require.ErrorIs(t, err, refused)
	require.ErrorContains(t, err, "not within 1m0s: ")

	err = after(5 * time.Minute)
	require.ErrorAs(t, err, &busy)
	file := filepath.Join(t.TempDir(), "skipped")
	t.Setenv(SkippedFile, file)
	t.Setenv("NAMEDLOCK_REQUIRE_SERVERS", "")
	t.Run("skipped", func(t *testing.T) { SkipOrFail(t, err) })
	skipped, failed := os.ReadFile(file)
	require.NoError(t, failed)
	assert.Equal(t, "set-up ran out of time, this machine is too busy to start mysql: not within 1m0s of a free machine's time, which were 5m0s on this busy one\n", string(skipped))
}
