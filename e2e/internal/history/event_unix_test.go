//go:build unix

package history

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A slow file makes its process late, since callers note events while times are
// measured.
func TestASlowFileIsLateness(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "w1.jsonl")
	require.NoError(t, unix.Mkfifo(pipe, 0o600))
	const slow = 20 * time.Millisecond
	read := make(chan []Event, 1)
	go func() {
		defer close(read)
		f, err := os.Open(pipe)
		if !assert.NoError(t, err) {
			return
		}
		defer f.Close()
		first := make([]byte, 1)
		_, err = io.ReadFull(f, first) // the writer has started
		assert.NoError(t, err)
		<-time.After(slow)
		events, err := Read(io.MultiReader(strings.NewReader(string(first)), f))
		assert.NoError(t, err)
		read <- events
	}()
	r, err := Record(pipe, "w1")
	require.NoError(t, err)
	// More than fits into a pipe.
	r.Note(Event{Kind: EventFlaw, Error: strings.Repeat("-", 1<<20)})
	require.NoError(t, r.Close())
	events := <-read
	require.Len(t, events, 2)
	assert.Equal(t, EventLate, events[1].Kind)
	assert.Equal(t, "w1", events[1].Worker)
	assert.GreaterOrEqual(t, events[1].At-events[1].From, int64(slow))
}
