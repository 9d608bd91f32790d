package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The number of undecided names is printed. If it is more than one name in ten,
// the run fails.
func TestUndecidedIsCounted(t *testing.T) {
	t.Parallel()
	r := newReport()
	assert.NoError(t, r.decided(), "nothing was judged")
	r.judged, r.undecided = 20, 2
	assert.NoError(t, r.decided())
	r.undecided = 3
	assert.ErrorIs(t, r.decided(), errUndecided)
	var out bytes.Buffer
	r.print(&out, 0)
	assert.Contains(t, out.String(), "20 names judged, 3 undecided")
}
