package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
)

// What is undecided is printed, and fails if it is more than one name in ten.
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
